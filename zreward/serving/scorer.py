"""From a request's images and prompts to scores, in two lanes.

    price    base64, headers, tokens: refused here over a limit    (costs.py)
    turn     each lane's requests, cheapest first                  (turns.py)
    score    pictures opened and scored where the model is         (lanes.py)

A quick request (at most twice what the smallest costs) never waits for one that is not.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from zreward.distribution import ScoreDistribution
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.serving.batching import Closing
from zreward.serving.costs import Prices
from zreward.serving.lanes import Lane, Lanes, decoders
from zreward.serving.settings import Settings
from zreward.serving.turns import Turns

SMALL = 64 * 1024  # bytes: a request up to this is read without waiting for larger ones
_SECONDS_PER_TOKEN = 0.001  # of precedence before dearer requests


@dataclass(frozen=True)
class ServedModel:
    """What has to be known of a model where it is not: everything but its weights."""

    name: str
    version: str  # a digest of the weights
    rubric: Rubric
    prices: Prices

    @classmethod
    def of(cls, model: RewardModel, name: str, settings: Settings) -> ServedModel:
        model.rubric.check_names(settings.dimensions or None)  # before the weights are read
        return cls(name, weights_fingerprint(model), model.rubric, Prices(model, settings))

    @property
    def identity(self) -> dict[str, Any]:
        """The part of every answer that says whose scores these are."""
        scale = self.rubric.scale
        return {
            "model": self.name,
            "version": self.version,
            "scale": scale.to_dict() | {"bins": scale.bins.tolist()},
        }


class Scorer:
    """Prices, turns, and what is counted. For one event loop."""

    def __init__(self, judge: ServedModel, lanes: Lanes, settings: Settings) -> None:
        self.rubric, self.prices, self.identity, self.settings = judge.rubric, judge.prices, judge.identity, settings
        self.dimensions = judge.rubric.check_names(settings.dimensions or None)
        self.quick, self.slow = (_Queue(lane, settings) for lane in lanes)
        self._reading = ThreadPoolExecutor(decoders(), "zreward-reading")
        self._reading_large = ThreadPoolExecutor(1, "zreward-reading-large")
        self._closing = False
        self._count()

    def _count(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("zreward_requests_total", "Requests.", ["path", "status"], registry=self.registry)
        self.images = Counter("zreward_images_total", "Images scored.", registry=self.registry)
        self.seconds = Histogram("zreward_request_seconds", "Time to an answer.", ["path"], registry=self.registry)
        queues = (self.quick, self.slow)
        for metric, about, value in (
            ("waiting_images", "Images in the queue.", lambda: self.waiting),
            ("running_requests", "Requests being opened or scored.", lambda: sum(one.turns.running for one in queues)),
            ("batches", "Batches scored so far.", lambda: sum(one.lane.state.batches for one in queues)),
        ):
            Gauge(f"zreward_{metric}", about, registry=self.registry).set_function(value)

    @property
    def waiting(self) -> int:
        return self.quick.waiting + self.slow.waiting

    async def read(self, size: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function over a request of `size` bytes in a thread: those of large requests go one after another."""
        threads = self._reading if size <= SMALL else self._reading_large
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def score(
        self, images: Sequence[str | bytes], prompts: Sequence[str], hung_up: Callable[[], Awaitable[None]]
    ) -> ScoreDistribution:
        """All dimensions of all images. `hung_up` returns when the client is no longer there.

        InputError for what cannot be scored, TooMuch, Busy, Closing, Failed; Gone for a client that hangs up before its turn.
        """
        leaving: asyncio.Future[None] = asyncio.ensure_future(hung_up())
        try:
            return await self._score(images, prompts, leaving)
        finally:
            leaving.cancel()

    async def _score(
        self, images: Sequence[str | bytes], prompts: Sequence[str], leaving: asyncio.Future[None]
    ) -> ScoreDistribution:
        if self._closing:
            raise Closing("the server is shutting down")
        self.prices.check_count(len(images))
        size = sum(map(len, itertools.chain(images, prompts)))
        priced = await self.read(size, self.prices.price, images, prompts)
        queue = self.quick if priced.quick else self.slow
        # Two batches' images, or one request of the most pixels, are opened at a time.
        settings = self.settings
        size = max(len(priced.images) / (2 * settings.max_batch), priced.pixels / settings.max_request_pixels)
        async with queue.turns.turn(len(priced.images), size, priced.cost, leaving):
            scores = await queue.lane.score(priced.images, priced.prompts)
        self.images.inc(len(priced.images))
        return scores

    async def start(self) -> None:
        """To be awaited in the event loop before the first request."""
        for queue in (self.quick, self.slow):
            await queue.lane.start()

    async def close(self) -> None:
        """Answer what was accepted, then stop the threads."""
        self._closing = True
        for queue in (self.quick, self.slow):
            await queue.lane.close()
        for threads in (self._reading, self._reading_large):
            threads.shutdown()

    async def reward(
        self,
        images: Sequence[str | bytes],
        prompts: Sequence[str],
        dimensions: Sequence[str] | None,
        hung_up: Callable[[], Awaitable[None]],
    ) -> dict[str, Any]:
        """One number per image: the mean expected score over dimensions."""
        names = self.rubric.check_names(dimensions) if dimensions is not None else self.dimensions
        scores = await self.score(images, prompts, hung_up)
        rewards = scores.select(names).mean.mean(-1).tolist()
        return self.identity | {"rewards": rewards, "aggregate": f"mean expected score of {', '.join(names)}"}


class _Queue:
    """A lane, and the turns of those who want to use it."""

    def __init__(self, lane: Lane, settings: Settings) -> None:
        self.lane = lane
        self.turns = Turns(settings.max_queue, _SECONDS_PER_TOKEN, lambda: lane.state.seconds_per_image)

    @property
    def waiting(self) -> int:
        """Images that wait for their turn or for the model."""
        return self.turns.waiting + self.lane.state.waiting
