"""SIGTERM, as a scheduler sends it before it takes a machine away: finish the step, save, and end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(Exception):
    """The work was stopped by SIGTERM, and saved. Its text says how to go on."""


@contextmanager
def termination() -> Iterator[threading.Event]:
    """An event that SIGTERM sets in here, instead of ending the program. Outside of the main thread nothing is changed."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
