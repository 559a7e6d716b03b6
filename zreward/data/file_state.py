"""Whether a file is still the one that was read: its size, its dates and its number, as git decides it."""

from __future__ import annotations

import os
import time

State = tuple[int, ...]
"""Size, time of the last change of the content, time of the last change of content or entry, and inode."""
_SETTLED = 2 * 10**9  # nanoseconds: a clock's tick, on every file system


def state_of(path: str | os.PathLike[str]) -> State | None:
    """None where there is no such file, or it cannot be asked."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def known_state(path: str | os.PathLike[str]) -> State | None:
    """`state_of` a file that is about to be read. Of one that changed just now it is (), which no file will match.

    A file can change twice within a tick of the clock, and keep its size.
    """
    state = state_of(path)
    return () if state is not None and state[2] > time.time_ns() - _SETTLED else state
