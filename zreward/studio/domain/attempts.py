"""Sign-ins that fail slow the next ones down. The right password always works, after a wait at worst.

Failures of the last quarter of an hour count by address and name together, by name, and by address. Beyond a free number of
them an attempt waits before the password is checked, up to `MOST_SECONDS`, and only a few wait at once; the rest is
refused (`TooManyAttemptsError`). So guesses are few per minute however many are sent. A browser in which that name has
signed in before shows so by a cookie: it is counted by itself, and failures of others do not slow it down.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from zreward.studio.domain.refusals import TooManyAttemptsError

WINDOW = 900.0  # seconds in which failures are remembered
MOST_SECONDS = 8.0
DOUBLES = 5  # failures after which the wait is twice as long
MOST_KEYS = 20_000  # the oldest are forgotten
HASHING = 4  # passwords checked at a time: each takes 64 MiB


@dataclass(frozen=True)
class Limit:
    key: str
    free: int  # failures without a wait
    waiting: int  # attempts that may wait at once


class Attempts:
    """The failures of a running studio. `first_wait` is in seconds."""

    def __init__(self, first_wait: float = 0.5) -> None:
        self.first_wait = first_wait
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._hashing = asyncio.Semaphore(HASHING)

    @asynccontextmanager
    async def turn(self, address: str, name: str, device: str | None) -> AsyncIterator[Attempt]:
        """Wait until this attempt's password may be checked. It counts as failed unless `succeeded()` is called.

        Args:
            address: Where the attempt comes from.
            name: Who wants to sign in.
            device: The name of a browser in which `name` has signed in before.

        Raises:
            TooManyAttemptsError: too many wait already.
        """
        limits = _limits(address, name, device)
        seconds = max(self._wait(limit) for limit in limits)
        slow = [limit for limit in limits if self._wait(limit)]
        if any(self._waiting[limit.key] >= limit.waiting for limit in slow):
            raise TooManyAttemptsError(math.ceil(seconds))
        self._waiting.update(limit.key for limit in slow)
        try:
            if seconds:
                await asyncio.sleep(seconds)
        finally:
            self._waiting.subtract(limit.key for limit in slow)
            self._waiting += Counter()  # drops what is zero
        for limit in limits:  # before it is known whether it fails: many may come at once
            self._times(limit.key).append(time.monotonic())
        async with self._hashing:
            yield Attempt(self, limits)

    def forgive(self, limits: list[Limit]) -> None:
        """The last attempt did not fail."""
        for limit in limits:
            times = self._failed.get(limit.key)
            if times:
                times.pop()

    def _wait(self, limit: Limit) -> float:
        times = self._failed.get(limit.key)
        while times and times[0] < time.monotonic() - WINDOW:
            times.popleft()
        over = len(times or ()) - limit.free
        return 0.0 if over < 0 else min(MOST_SECONDS, self.first_wait * 2 ** min(over // DOUBLES, 30))

    def _times(self, key: str) -> deque[float]:
        times = self._failed.setdefault(key, deque(maxlen=1000))
        self._failed.move_to_end(key)
        while len(self._failed) > MOST_KEYS:
            self._failed.popitem(last=False)
        return times


@dataclass(frozen=True)
class Attempt:
    """One try of a password."""

    attempts: Attempts
    limits: list[Limit]

    def succeeded(self) -> None:
        self.attempts.forgive(self.limits)


def _limits(address: str, name: str, device: str | None) -> list[Limit]:
    if device is not None:
        return [Limit(f"device {device}", 10, 1)]
    return [
        Limit(f"both {address} {name}", 10, 1),
        Limit(f"name {name}", 50, 4),
        Limit(f"address {address}", 50, 8),  # many people may share one
    ]
