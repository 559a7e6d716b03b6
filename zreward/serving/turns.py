"""Who goes next: requests wait for a turn, cheap ones before dear ones, but nobody for ever."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Busy(Exception):
    """The queue is full. `seconds`: about how long until it has room."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full; try again in {seconds:.1f} s")
        self.seconds = seconds


class Turns:
    """At most `room` images at a time have their turn (one request always has), and at most `most` wait.

    The order is that of arrival plus `patience` seconds for each unit of cost: a request overtakes dearer ones that came at
    most that much earlier. For one event loop.
    """

    def __init__(self, room: int, most: int, patience: float, pace: Callable[[], float] = lambda: 0.0) -> None:
        """`pace`: seconds for an image, for those who are sent away."""
        self.room, self.most, self.patience, self._pace = room, most, patience, pace
        self.running = self.waiting = 0  # images
        self._queue: list[tuple[float, int, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    @asynccontextmanager
    async def turn(self, images: int, cost: float) -> AsyncIterator[None]:
        """Inside, it is this request's turn. Raises Busy where too many images wait."""
        if self._queue or not self._fits(images):
            await self._wait(images, cost)
        else:
            self.running += images
        try:
            yield
        finally:
            self._leave(images)

    async def _wait(self, images: int, cost: float) -> None:
        """Until `_leave` of another counts this one as running."""
        if self.waiting and self.waiting + images > self.most:
            raise Busy(max(1.0, self.waiting * self._pace()))
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (time.monotonic() + self.patience * cost, next(self._number), images, mine))
        self.waiting += images
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # its turn came as it was given up
                self._leave(images)
            raise
        finally:
            self.waiting -= images

    def _fits(self, images: int) -> bool:
        return not self.running or self.running + images <= self.room

    def _leave(self, images: int) -> None:
        self.running -= images
        while self._queue and (self._queue[0][-1].done() or self._fits(self._queue[0][2])):
            *_, count, next_one = heapq.heappop(self._queue)
            if not next_one.done():
                self.running += count
                next_one.set_result(None)
