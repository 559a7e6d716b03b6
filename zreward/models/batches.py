"""How a long list is scored: images are prefetched, a batch holds rows of similar length, and one that does not fit is halved."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from zreward.common.errors import InputError

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def pack(lengths: Sequence[int], most: int, token_budget: int | None = None) -> list[list[int]]:
    """Group items into batches of similar length.

    Rows are padded to the longest of their batch: the number of items times that length stays within `token_budget`.

    Args:
        lengths: tokens of every item.
        most: the most items in a batch.
        token_budget: the most tokens in a batch, padding counted; default no limit.

    Returns:
        The batches, each a list of indices into `lengths`, longest items first.

    Raises:
        InputError: one item alone is longer than `token_budget`.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        if token_budget is not None and length > token_budget:
            raise InputError(
                f"item {index} takes {length:,} tokens, the budget is {token_budget:,}; raise token_budget, or lower the "
                "resolution (longest_side, pixel_budget)"
            )
        if not room:
            batches.append([])
            room = most if token_budget is None else min(most, token_budget // max(1, length))
        batches[-1].append(index)
        room -= 1
    return batches


def prefetch(function: Callable[[A], B], items: Iterable[A], size: int) -> Iterator[list[B]]:
    """`function` of all items, in order, in lists of `size`: threads prepare the next list while the caller uses one.

    Threads, not processes: decoding and resizing release Python's lock, and pictures need not be sent back.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        running: deque[Future[B]] = deque()
        left = iter(items)
        try:
            for item in left:
                running.append(threads.submit(function, item))
                if len(running) == 2 * size:
                    yield [running.popleft().result() for _ in range(size)]
            while running:
                yield [running.popleft().result() for _ in range(min(size, len(running)))]
        finally:
            for future in running:
                future.cancel()


def prefetch_windows(
    function: Callable[[A], B], items: Sequence[A], prompts: Sequence[C], size: int
) -> Iterator[tuple[int, list[B], list[C]]]:
    """`prefetch`, each list with the number of its first item and the prompts of its items.

    Args:
        function: called in threads.
        items: N of them.
        prompts: N texts.
        size: the items of a list; the last one may be shorter.
    """
    first = 0
    for opened in prefetch(function, items, size):
        yield first, opened, list(prompts[first : first + len(opened)])
        first += len(opened)


class OomRetry:
    """Runs a function over batches; when memory runs out, it halves the batch and remembers the smaller size.

    The size is remembered in tokens, padding counted, not in items: after one very large picture, small ones still share
    a batch. The first retry gives a warning. A single item that does not fit raises torch's own error.
    """

    def __init__(self) -> None:
        self.tokens: int | None = None  # at a time; None: memory has not run out yet

    def run(self, function: Callable[[list[A]], B], items: list[A], lengths: Sequence[int]) -> list[B]:
        """The results of the parts, in order; `lengths` are the items' tokens."""
        longest = max(1, *lengths)
        size = len(items) if self.tokens is None else min(len(items), max(1, self.tokens // longest))
        try:
            return [function(items[start : start + size]) for start in range(0, len(items), size)]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if self.tokens is None:
            warnings.warn(
                f"out of memory with {size} images at a time; going on with fewer. A batch_size or token_budget that fits "
                "saves the failed attempts.",
                stacklevel=2,
            )
        self.tokens = size * longest // 2
        torch.cuda.empty_cache()
        return self.run(function, items, lengths)
