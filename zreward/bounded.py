"""Reading files that somebody else may have written: regular files of bounded size, so that no pipe, device or giant is read.

Everything raises InputError naming the file, what it is and what was expected.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from zreward.errors import InputError

MEGABYTE = 1 << 20
TEXT_LIMIT = MEGABYTE  # of what people write: recipes, rubrics, settings
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | Path, most: int | None = None) -> int:
    """The size in bytes of a regular file of at most `most` bytes; links are followed, nothing is opened."""
    path = Path(path)
    try:
        return _size(path, os.stat(path), most)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_bytes(path: str | Path, most: int = TEXT_LIMIT) -> bytes:
    """The bytes of a regular file of at most `most` bytes."""
    path = Path(path)
    # Without blocking: opening a pipe must not wait for somebody who writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        check_regular(path, most)
        with open(os.open(path, flags), "rb") as file:
            _size(path, os.fstat(file.fileno()), most)
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(data) > most:  # a file of /proc says that it is empty
        raise _too_large(path, len(data), most)
    return data


def read_text(path: str | Path, most: int = TEXT_LIMIT) -> str:
    """UTF-8 text, with or without a byte-order mark."""
    data = read_bytes(path, most)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_json(path: str | Path, most: int = TEXT_LIMIT) -> dict[str, Any]:
    """A JSON object."""
    text = read_text(path, most)
    if text.startswith("version https://git-lfs.github.com/"):
        raise InputError(f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError(f"{path} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); it is damaged or cut off: fetch or write it again"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a JSON {type(value).__name__}; expected an object: keys and values")
    return value


def _size(path: Path, found: os.stat_result, most: int | None) -> int:
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode):
            raise InputError(f"{path} is {kind}; expected a regular file")
    if most is not None and found.st_size > most:
        raise _too_large(path, found.st_size, most)
    return found.st_size


def _too_large(path: Path, size: int, most: int) -> InputError:
    return InputError(f"{path} has {size:,} bytes or more; expected at most {most:,}")


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return InputError(f"{path} is a link to {os.readlink(path)}, which is not there")
    return InputError(f"{path}: {getattr(error, 'strerror', None) or error}")
