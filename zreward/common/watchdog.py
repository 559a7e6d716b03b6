"""Work that hangs (a sampler, a process that waits for another) ends the program instead of holding its GPUs for ever."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 75  # EX_TEMPFAIL: try again
_STDERR = 2


@contextmanager
def watchdog(what: str, seconds: float, advice: str) -> Iterator[None]:
    """Work in here that takes longer prints what every thread is doing, and ends the process at once."""
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), _end, (what, seconds, advice))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(what: str, seconds: float, advice: str) -> None:
    """Past Python's streams, which may be closed or replaced, and past the lock of progress bars, which may be what hangs."""
    message = f"zreward: {what} did not end within {seconds:g} seconds, so this process is ended; {advice}\n"
    try:
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        os.write(_STDERR, message.encode(errors="backslashreplace"))
    finally:
        os._exit(EXIT_CODE)
