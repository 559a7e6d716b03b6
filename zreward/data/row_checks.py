"""Rows are checked several at a time and come back in order: large pictures by threads, many small ones by processes.

Pillow lets other threads run while it decodes a large picture. A small one takes its time in Python, where threads only wait
for one another.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any, TypeVar

from zreward.data.rows import SourceRow, bytes_of
from zreward.data.together import together

_CHUNK = 64  # rows that are read together, fewer where they are large
_BYTES = 64 << 20  # of their pictures
_SENT = 256  # small rows that are sent to a process together
_TASK = 8  # of them in a thread's task
_SMALL = 1 << 10  # bytes of an encoded picture
_ALONE = 4096  # small rows that come first and are checked here: processes take a while to start
_AHEAD = 4  # chunks for each process that are read before their turn
_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_WORKERS = min(8, _CPUS)

R = TypeVar("R")
Chunk = list[SourceRow]


def checked(check: Callable[[SourceRow], R], rows: Iterable[SourceRow]) -> Iterator[tuple[SourceRow, R]]:
    """Each row with what `check` returns for it, in the order of `rows`.

    Args:
        check: called in threads, and in forked processes, which pickle what it returns. What it raises, but does not return,
            ends the loop.
        rows: read a few hundred ahead.
    """
    alone = 0
    waiting: deque[tuple[Chunk, Future[list[R]]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as threads, ExitStack() as stack:
        processes: ProcessPoolExecutor | None = None
        for chunk, is_small in _chunks(iter(rows)):
            if is_small and alone >= _ALONE and _can_fork():
                processes = processes or stack.enter_context(_processes(check))
                waiting.append((chunk, _submitted(processes, chunk)))
                if len(waiting) > _AHEAD * _WORKERS:
                    yield from _taken(waiting, check)
                continue
            while waiting:
                yield from _taken(waiting, check)
            if is_small:
                alone += len(chunk)
                yield from ((row, check(row)) for row in chunk)
            else:
                task = min(_TASK, -(-len(chunk) // _WORKERS))
                parts = [chunk[start : start + task] for start in range(0, len(chunk), task)]
                found = threads.map(lambda part: [check(row) for row in part], parts)
                yield from zip(chunk, (one for part in found for one in part), strict=True)
        while waiting:
            yield from _taken(waiting, check)


def _submitted(processes: ProcessPoolExecutor, chunk: Chunk) -> Future[list[Any]]:
    try:
        return processes.submit(_checked_there, [row._replace(raw="") for row in chunk])
    except BrokenProcessPool as error:
        broken: Future[list[Any]] = Future()
        broken.set_exception(error)
        return broken


def _taken(
    waiting: deque[tuple[Chunk, Future[list[R]]]], check: Callable[[SourceRow], R]
) -> Iterator[tuple[SourceRow, R]]:
    """The next chunk with what was found; checked here where a process was killed, as by a machine that runs out of memory."""
    chunk, future = waiting.popleft()
    try:
        found = future.result()
    except BrokenProcessPool:
        found = list(map(check, chunk))
    yield from zip(chunk, found, strict=True)


def _chunks(rows: Iterator[SourceRow]) -> Iterator[tuple[Chunk, bool]]:
    """Neighbouring rows, and whether all of them are small."""
    small: Chunk = []
    for chunk in together(rows, _CHUNK, _BYTES, bytes_of):
        is_small = all(map(_is_small, chunk))
        small += chunk if is_small else []
        if small and (not is_small or len(small) >= _SENT):
            yield small, True
            small = []
        if not is_small:
            yield chunk, False
    if small:
        yield small, True


def _is_small(row: SourceRow) -> bool:
    """Whether its picture is looked at in less time than threads take to hand it over."""
    if row.data is None or row.data.get("images") is not None:
        return row.data is None
    image = row.data.get("image")
    content = image.get("bytes") if isinstance(image, dict) else image
    return content is None or (isinstance(content, bytes) and len(content) <= _SMALL)


def _can_fork() -> bool:
    return _CPUS > 1 and sys.platform == "linux" and not multiprocessing.current_process().daemon


def _processes(check: Callable[[SourceRow], Any]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(_WORKERS, multiprocessing.get_context("fork"), _begin, (check,))


_check: Callable[[SourceRow], Any]  # in a forked process


def _begin(check: Callable[[SourceRow], Any]) -> None:
    """Ctrl-C is the parent's to answer, and without it nothing is left to do: it may hold a lock, which this process shares."""
    global _check
    _check = check
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _checked_there(chunk: Chunk) -> list[Any]:
    return [_check(row) for row in chunk]
