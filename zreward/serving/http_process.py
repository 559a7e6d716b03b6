"""The process that speaks HTTP for `zreward serve`; the model stays in the process that starts it.

A pass gives up Python's lock at each of its hundreds of operations. Beside thousands of requests that are only refused it would
have to wait for it each time, so reading, checking and pricing have a process, and so a lock, of their own.

    links      a socket for each lane: requests to the model, scores back                          (link.py)
    control    to this process: what it has to know of the model, then "stop"; back: "ready"

Either process notices by the end of its links that the other has ended, however that came.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

    from zreward.serving.scorer import ServedModel
    from zreward.serving.settings import Settings

SWITCH = 0.001  # seconds that one Python thread may keep the others waiting: a fifth of the default
_NICENESS = 5  # where cores are few, passes go before requests that may be junk
_FAREWELL = 5  # seconds for the last answers once the model is gone


class HttpProcess:
    """The model's side."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        """Start it on listening sockets, which are its own from now on; it imports what it needs, and waits for `begin`."""
        spawn = multiprocessing.get_context("spawn")
        pairs = [socket.socketpair() for _ in range(2)]
        self.links, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self._control, control = spawn.Pipe()
        self._process = spawn.Process(target=main, args=(list(sockets), theirs, control), daemon=True)
        self._begun = False
        with _uninterrupted():
            self._process.start()
        control.close()
        for one in (*sockets, *theirs):
            one.close()

    def begin(self, judge: ServedModel, settings: Settings) -> None:
        """Returns when it answers requests. SystemExit where it cannot."""
        self._begun = True
        try:
            self._control.send((judge, settings))
            self._control.recv()
        except (EOFError, OSError):
            self.check()

    def stop(self) -> None:
        """Let it accept nothing more and end when all that was accepted is answered; then the links end."""
        with suppress(OSError):
            self._control.send("stop")

    def check(self) -> None:
        """When its links have ended: SystemExit with a reason, unless it has done all it had to."""
        self._process.join(_FAREWELL)
        if self._process.exitcode != 0:
            raise SystemExit(f"the process that speaks HTTP has ended early (exit code {self._process.exitcode})")

    def close(self, at_once: bool = False) -> None:
        """End it; it answers what waits for the model with an error, unless `at_once`."""
        self._control.close()
        for link in self.links:
            link.close()
        if self._begun and not at_once:
            self._process.join(2 * _FAREWELL)
        self._process.kill()
        self._process.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which reaches all processes of a terminal, and SIGTERM: their parent decides."""
    resource_tracker.ensure_running()  # multiprocessing's own helper: its start would let these signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget_garbage() -> None:
    """What is there by now is never collected: going through all of it would hold up every request for a tenth of a second."""
    gc.collect()
    gc.freeze()


def main(sockets: list[socket.socket], links: list[socket.socket], control: Connection) -> None:
    """What the process runs."""
    os.nice(_NICENESS)
    import torch

    from zreward.serving.app import app_of
    from zreward.serving.link import RemoteLane
    from zreward.serving.listener import uvicorn_server
    from zreward.serving.scorer import Scorer

    try:
        judge, settings = control.recv()
    except EOFError:  # the model cannot be served; its process says why
        return
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH)
    quick, slow = (RemoteLane(link, judge.rubric) for link in links)
    server = uvicorn_server(app_of(Scorer(judge, (quick, slow), settings), settings))
    lost = threading.Event()
    threading.Thread(target=_obey, args=(control, server, lost), daemon=True).start()
    forget_garbage()
    server.run(sockets)
    sys.exit(1 if lost.is_set() else 0)


def _obey(control: Connection, server: uvicorn.Server, lost: threading.Event) -> None:
    """Report the start, and end on request or when the other process is gone."""
    while not server.started:
        time.sleep(0.02)
    try:
        control.send("ready")
        control.recv()
    except (EOFError, OSError):
        lost.set()
        print("zreward: the process of the model has ended; the server stops", file=sys.stderr, flush=True)
        server.config.timeout_graceful_shutdown = _FAREWELL
    server.should_exit = True
