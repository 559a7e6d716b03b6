"""Temporary folders of writers, and locks on folders. A lock distinguishes a running writer's folder from a killed one's."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zreward.common.errors import InputError

try:
    import fcntl
except ImportError:  # no locks on this system: nothing is swept, and no second writer is refused
    fcntl = None  # type: ignore[assignment]

NAMES = re.compile(r"\.zreward-[0-9a-f]{12}\.tmp")
OLD = "old"  # inside a temporary folder: what stood at the place that is being written


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, locked until the block ends and removed then. Its mode follows the umask."""
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is empty but for temporary folders, which a killed writer may have left."""
    return all(NAMES.fullmatch(path.name) for path in folder.iterdir())


def sweep(parent: Path) -> None:
    """Remove the temporary folders that killed writers left in `parent`; live writers' stay.

    Where the kill fell between moving the old file or folder away and putting the new one there, the old one comes back.
    """
    for folder in _temporary(parent):
        lock = _lock(folder)
        if lock is None:
            continue
        try:
            for old in (folder / OLD).glob("*"):
                if not (parent / old.name).exists():
                    os.replace(old, parent / old.name)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # a folder that cannot be written to: the writer reports it
            pass
        finally:
            os.close(lock)


def sweep_tree(folder: Path) -> None:
    """`sweep` in `folder`, in all folders below it, and beside it."""
    sweep(folder.parent)
    for place, below, _ in os.walk(folder):
        sweep(Path(place))
        below[:] = [name for name in below if not NAMES.fullmatch(name)]


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds it until the block ends. InputError where another process holds it, or nobody can write.

    What killed writers left is swept. A folder that is empty at the end and was made here goes again.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}; choose another place") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be written to; choose another place, or change its permissions")
    lock = _lock(folder)
    if lock is None and fcntl is not None and _is_held(folder):
        raise InputError(f"{folder}: another process is writing there; wait for it, or choose another place")
    try:
        sweep_tree(folder)
        yield
    finally:
        if new:
            with suppress(OSError):  # not empty: it stays
                folder.rmdir()
        if lock is not None:
            os.close(lock)


@contextmanager
def waiting_lock(file: Path) -> Iterator[None]:
    """Holds a lock on `file`, which stays, until the block ends; waits for other processes. No lock where there are none."""
    with file.open("a") as handle:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _temporary(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if NAMES.fullmatch(entry.name)]
    except OSError:  # not there yet, or not to be listed
        return []


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = parent / f".zreward-{secrets.token_hex(6)}.tmp"
        folder.mkdir()
        lock = _lock(folder)
        if lock is not None or folder.exists():
            return folder, lock
        # A sweeper saw the folder before its lock was there, and removed it.


def _lock(folder: Path) -> int | None:
    """A handle that holds the folder's lock; None where somebody else holds it, it is gone, or there are no locks here."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _is_held(folder: Path) -> bool:
    """Whether the lock was refused because another has it, not because this file system knows none."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    finally:
        os.close(handle)
    return False
