"""The order of requests: cheapest first, with ageing, so that an expensive one does not wait for ever."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Busy(Exception):
    """The queue is full. `seconds`: the expected wait until it has space."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full; try again in {seconds:.1f} s")
        self.seconds = seconds


class Gone(Exception):
    """The client disconnected while its request waited."""


class Turns:
    """Admits requests while their sizes sum to at most 1.0 (one always runs); at most `most` images wait.

    Requests are ordered by their arrival time plus `patience` seconds per unit of cost: a request overtakes more expensive
    ones that came at most that much earlier. For one event loop.
    """

    def __init__(self, most: int, patience: float, pace: Callable[[], float] = lambda: 0.0) -> None:
        """`pace`: seconds per image, for the Retry-After of refused requests."""
        self.most, self.patience, self._pace = most, patience, pace
        self.waiting = self.running = 0  # images, requests
        self.filled = 0.0  # sum of the running requests' sizes
        self._queue: list[tuple[float, int, float, asyncio.Future[None]]] = []
        self._number = itertools.count()

    @asynccontextmanager
    async def turn(
        self, images: int, size: float, cost: float, leaving: asyncio.Future[None] | None = None
    ) -> AsyncIterator[None]:
        """Wait for admission; the request runs inside the block.

        Args:
            images: images of the request.
            size: its share of what may run at a time, 0 to 1.
            cost: moves it back in the queue.
            leaving: done when the client disconnects; the request then leaves the queue at once.

        Raises:
            Busy: too many images wait.
            Gone: the client disconnected.
        """
        if leaving is not None and leaving.done():
            raise Gone
        if self._queue or not self._fits(size):
            await self._wait(images, size, cost, leaving)
        else:
            self._enter(size)
        try:
            yield
        finally:
            self._leave(size)

    async def _wait(self, images: int, size: float, cost: float, leaving: asyncio.Future[None] | None) -> None:
        """Until `_leave` of another counts this one as running."""
        if self.waiting and self.waiting + images > self.most:
            raise Busy(max(1.0, self.waiting * self._pace()))
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (time.monotonic() + self.patience * cost, next(self._number), size, mine))
        self.waiting += images

        def leave(_: object) -> None:
            if not mine.done():
                mine.set_exception(Gone())

        if leaving is not None:
            leaving.add_done_callback(leave)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:  # its turn came as it was given up
                self._leave(size)
            raise
        finally:
            self.waiting -= images

    def _fits(self, size: float) -> bool:
        return not self.running or self.filled + size <= 1 + 1e-9

    def _enter(self, size: float) -> None:
        self.running += 1
        self.filled += size

    def _leave(self, size: float) -> None:
        self.running -= 1
        self.filled = self.filled - size if self.running else 0.0
        while self._queue and (self._queue[0][-1].done() or self._fits(self._queue[0][2])):
            *_, next_size, mine = heapq.heappop(self._queue)
            if not mine.done():
                self._enter(next_size)
                mine.set_result(None)
