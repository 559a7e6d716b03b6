"""Work that hangs (a sampler, a process that waits for another) ends the program instead of holding its GPUs for ever."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zreward.common.runs import say

EXIT_CODE = 75  # EX_TEMPFAIL: try again


@contextmanager
def watchdog(what: str, seconds: float, advice: str) -> Iterator[None]:
    """Work in here that takes longer prints what every thread is doing, and ends the process at once."""
    timer = threading.Timer(seconds, _end, (what, seconds, advice))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(what: str, seconds: float, advice: str) -> None:
    faulthandler.dump_traceback(all_threads=True)
    say(f"{what} did not end within {seconds:g} seconds, so this process is ended; {advice}")
    os._exit(EXIT_CODE)
