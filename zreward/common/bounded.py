"""Reading files that somebody else may have written: regular files of bounded size, so that no pipe, device or giant is read.

Everything raises InputError naming the file, what it is and what was expected.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError

MEGABYTE = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | os.PathLike[str], expected: str = "a file", most: int | None = None) -> int:
    """The size in bytes of a regular file of at most `most` bytes; links are followed, nothing is opened."""
    path = Path(path)
    try:
        return _size(path, os.stat(path), expected, most)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, expected) from None


def read_bytes(path: str | os.PathLike[str], expected: str = "a file", most: int = MEGABYTE) -> bytes:
    """The bytes of a regular file of at most `most` bytes. `expected` says in messages what the file should be."""
    path = Path(path)
    # Without blocking: opening a pipe must not wait for somebody who writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            _size(path, os.fstat(file.fileno()), expected, most)
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, expected) from None
    if len(data) > most:  # a file of /proc says that it is empty
        raise InputError(f"{path}: more than {most:,} bytes; expected {expected} of at most {most:,}")
    return data


def read_json(path: str | os.PathLike[str], most: int = MEGABYTE) -> dict[str, Any]:
    """A JSON object in UTF-8."""
    data = read_bytes(path, "a JSON file", most)
    if is_lfs_pointer(data):
        raise InputError(f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    wrong = f"{path} is not a valid {Path(path).name}"
    try:
        value = json.loads(data)
    except RecursionError:
        raise InputError(f"{wrong}: it is nested too deeply") from None
    except ValueError as error:  # also for bytes that are no text
        raise InputError(f"{wrong}: no JSON ({error}). It is damaged or cut off: fetch or write it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{wrong}: it holds a JSON {type(value).__name__}, expected an object: keys and values")
    return value


def is_lfs_pointer(start: bytes) -> bool:
    """Whether a file that begins so is what Git LFS leaves where it did not fetch the real one."""
    return start.startswith(b"version https://git-lfs.github.com/")


def _size(path: Path, found: os.stat_result, expected: str, most: int | None) -> int:
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode):
            raise InputError(f"{path}: is {kind}, not a regular file; expected {expected}")
    if most is not None and found.st_size > most:
        raise InputError(f"{path}: {found.st_size:,} bytes; expected {expected} of at most {most:,}")
    return found.st_size


def _unreadable(path: Path, error: OSError | ValueError, expected: str) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return InputError(f"{path}: a link to {os.readlink(path)}, which is not there; expected {expected}")
    if isinstance(error, OSError):
        return InputError(f"{path}: {error.strerror or error}; expected {expected}")
    return InputError(f"{str(path)!r}: not a file name; expected {expected}")
