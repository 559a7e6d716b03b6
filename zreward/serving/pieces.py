"""Long work that holds Python's lock, done a megabyte at a time with as long a pause after each: others run in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

B = TypeVar("B", str, bytes)
PIECE = 2**20


def in_pieces(function: Callable[[Any], B], data: str | bytes | bytearray) -> list[B]:
    """`function` of each piece of `data`; no pause where it is a single one."""
    found: list[B] = []
    for start in range(0, len(data), PIECE):
        begin = time.perf_counter()
        found.append(function(data[start : start + PIECE]))
        if len(data) > PIECE:
            time.sleep(time.perf_counter() - begin)
    return found
