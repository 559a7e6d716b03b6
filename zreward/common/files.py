"""Files and folders that appear whole or not at all: a reader sees the old one or the new one, never half of it.

What is written follows the umask, and a disk that refuses ends in one message that names the place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.common.temporary import OLD, sweep, temporary_folder

_swept: set[str] = set()  # folders in which this process has removed files of killed writers


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name for a file, moved onto `path` when the block ends well and removed when it does not.

    The folder is made when missing; a link is followed. InputError naming `path` where the disk refuses (full, read-only,
    a name too long, a way through a file), and for a `path` that is a device or pipe.
    """
    with disk_errors(path):
        path = _target(path)
        with _beside(path) as box:
            temporary = box / path.name
            yield temporary
            _settle(temporary, box.stat().st_mode)
            os.replace(temporary, path)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new, empty folder that takes the place of `path` when the block ends well, files and folders in it included.

    An existing folder is replaced as a whole. InputError like `atomic_path`.
    """
    path = Path(path)
    with disk_errors(path), _beside(path) as box:
        made, old = box / "new" / path.name, box / OLD / path.name
        made.mkdir(parents=True)
        yield made
        mode = box.stat().st_mode
        for place, _, files in os.walk(made):
            os.chmod(place, mode & 0o7777)
            for name in files:
                _settle(Path(place, name), mode)
        if path.exists():
            old.parent.mkdir()
            os.replace(path, old)
        try:
            os.replace(made, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise


@contextmanager
def disk_errors(path: str | os.PathLike[str], advice: str = "") -> Iterator[None]:
    """What a disk that refuses raises, in Python, safetensors and torch, becomes InputError naming `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot write: {_reason(error, path)}{advice}") from error
    except Exception as error:
        if _is_torch_writer(error):
            raise InputError(f"{path}: cannot write: the disk is full, or refuses the file{advice}") from error
        if type(error).__name__ == "SafetensorError":
            raise InputError(f"{path}: cannot write: {str(error).splitlines()[0]}{advice}") from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a file, whole or not at all: where the disk refuses, the file is cut back to what it was.

    Half a line, which a kill left, gets an end of its own.
    """
    with disk_errors(path), open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        data = (b"\n" if file.read(1) not in (b"", b"\n") else b"") + f"{line}\n".encode()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def to_json(value: Any, indent: int | None = 2) -> str:
    """JSON that any reader takes: null in the place of NaN and infinities."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, to_json(value))


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    write_text(path, "".join(to_json(row, indent=None) + "\n" for row in rows))


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _target(path: str | os.PathLike[str]) -> Path:
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise InputError(f"{path}: cannot write: it is {kind}, expected the name of a file")
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, on the same file system. Folders made for it go again when the block fails."""
    missing = [folder for folder in Path(os.path.abspath(path)).parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    place = os.path.abspath(path.parent)
    if place not in _swept:
        sweep(path.parent)
        _swept.add(place)
    try:
        with temporary_folder(path.parent) as box:
            yield box
    except BaseException:
        with suppress(OSError):  # something else is in there by now
            for folder in missing:
                folder.rmdir()
        raise


def sync_folder(folder: Path) -> None:
    """Sync all files of a folder to the disk, so that a marker written afterwards holds even after a power failure."""
    for place, _, files in os.walk(folder):
        for name in files:
            _sync(Path(place, name))


def _sync(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def _settle(file: Path, mode: int) -> None:
    """On the disk, with the mode that an ordinary new file would have here: some writers make theirs for the owner alone."""
    _sync(file)
    os.chmod(file, mode & 0o666)


def _reason(error: OSError, path: str | os.PathLike[str]) -> str:
    """The system's words, and the file that they are about where it is another one."""
    reason = error.strerror or str(error)
    other = error.filename if isinstance(error.filename, str) else None
    if other is None or os.path.abspath(other).startswith(os.path.dirname(os.path.abspath(path))):
        return reason
    return f"{reason} ({other})"


def _is_torch_writer(error: Exception) -> bool:
    """torch.save reports a disk that refuses as a RuntimeError of its zip writer."""
    words = ("PytorchStreamWriter", "unexpected pos", "iostream error", "inline_container")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it. A kill leaves all of it or nothing under its name."""
    with suppress(FileNotFoundError), temporary_folder(folder.parent) as box:
        os.replace(folder, box / "removed")
