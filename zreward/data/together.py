"""Rows that are in memory together: many small ones, few large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def together(rows: Iterator[T], most: int, budget: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """The rows in lists, in order.

    Args:
        rows: taken when their list is asked for, one list at a time.
        most: rows of a list.
        budget: bytes after which a list ends.
        size: a row's bytes.
    """
    while True:
        held, part = 0, []
        for row in islice(rows, most):
            part.append(row)
            held += size(row)
            if held >= budget:
                break
        if not part:
            return
        yield part
