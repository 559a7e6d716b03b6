"""From a request's images and prompts to scores, in two lanes.

    price    base64, headers, tokens: refused here if too dear                (costs.py)
    turn     quick requests at once, others by their cost                     (turns.py)
    open     pictures decoded and resized, in the lane's threads
    score    batches of the lane's own copy of the model; weights are shared  (batching.py)

A quick request (at most twice what the smallest costs) never waits for one that is not.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from torch import Tensor

from zreward.distribution import ScoreDistribution
from zreward.errors import InputError, NotFiniteError
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reward_model import RewardModel
from zreward.serving.batching import Batcher, Closing
from zreward.serving.costs import Prices
from zreward.serving.pictures import from_bytes
from zreward.serving.settings import Settings
from zreward.serving.turns import Turns

SMALL = 64 * 1024  # bytes: a request up to this is read without waiting for larger ones
_TOKENS_PER_PASS = 32 * 1024
_SECONDS_PER_TOKEN = 0.001  # of precedence before dearer requests
_log = logging.getLogger("zreward.serving")


class Failed(Exception):
    """The model could not score a request that seemed fine; the message says why."""


class Gone(Exception):
    """The client hung up before its turn came."""


class Lane:
    """Threads, a queue and a batching thread of their own."""

    def __init__(self, model: RewardModel, name: str, settings: Settings, threads: int, priority: int) -> None:
        self.model = model
        self.names = model.check_dimensions(None)
        self.at_once = threads
        self.threads = ThreadPoolExecutor(threads, f"zreward-{name}")
        self.batcher = Batcher(self._score, settings.max_batch, settings.max_wait, lambda: _stream(model, priority))
        self.turns = Turns(settings.max_queue, _SECONDS_PER_TOKEN, lambda: self.batcher.seconds_per_image)

    @property
    def waiting(self) -> int:
        """Images that wait for their turn or for the model."""
        return self.turns.waiting + self.batcher.waiting

    def _score(self, images: list[Tensor], prompts: list[str]) -> ScoreDistribution:
        shown = [(image,) for image in images]
        longest = max(
            self.model._length(one, prompt, self.names[0]) for one, prompt in zip(shown, prompts, strict=True)
        )
        budget = max(_TOKENS_PER_PASS, longest)
        return self.model.score_opened(shown, prompts, self.names, self.batcher.max_batch, budget)

    def close(self) -> None:
        self.batcher.close()
        self.threads.shutdown()


class Scorer:
    """The model, its lanes and what is counted."""

    def __init__(self, model: RewardModel, name: str, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.dimensions = model.check_dimensions(settings.dimensions or None)
        self.prices = Prices(model, settings)
        scale = model.rubric.scale
        self.identity: dict[str, Any] = {
            "model": name,
            "version": weights_fingerprint(model),
            "scale": scale.to_dict() | {"bins": scale.bins.tolist()},
        }
        # Each thread holds one picture at full size while it shrinks it.
        threads = max(1, min(8, os.cpu_count() or 1) // 2)
        self.quick = Lane(model, "quick", settings, threads, priority=-1)
        self.slow = Lane(_twin(model), "slow", settings, threads, priority=0)
        self.reading = ThreadPoolExecutor(1, "zreward-reading")  # large bodies
        self._closing = False
        self._count()

    def warm_up(self) -> None:
        """One pass in each lane. InputError for a model that cannot score single images, or whose weights are broken."""
        for lane in (self.quick, self.slow):
            lane.model.score([Image.new("RGB", (64, 64), "grey")], "a grey square")

    def _count(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("zreward_requests_total", "Requests.", ["path", "status"], registry=self.registry)
        self.images = Counter("zreward_images_total", "Images scored.", registry=self.registry)
        self.seconds = Histogram("zreward_request_seconds", "Time to an answer.", ["path"], registry=self.registry)
        lanes = (self.quick, self.slow)
        for metric, about, value in (
            ("waiting_images", "Images in the queue.", lambda: self.waiting),
            ("running_requests", "Requests being opened or scored.", lambda: sum(lane.turns.running for lane in lanes)),
            ("batches", "Batches scored so far.", lambda: sum(lane.batcher.batches for lane in lanes)),
        ):
            Gauge(f"zreward_{metric}", about, registry=self.registry).set_function(value)

    @property
    def waiting(self) -> int:
        return self.quick.waiting + self.slow.waiting

    async def read(self, size: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function over a request of `size` bytes in a thread: those of large requests go one after another."""
        threads = self.quick.threads if size <= SMALL else self.reading
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def score(
        self, images: Sequence[str | bytes], prompts: Sequence[str], gone: Callable[[], Awaitable[bool]]
    ) -> ScoreDistribution:
        """All dimensions of all images.

        InputError for what cannot be scored, TooMuch, Busy, Closing, Failed; Gone where `gone` says so when the turn comes.
        """
        if self._closing:
            raise Closing("the server is shutting down")
        self.prices.check_count(len(images))
        size = sum(map(len, itertools.chain(images, prompts)))
        priced = await self.read(size, self.prices.price, images, prompts)
        lane = self.quick if priced.quick else self.slow
        # Two batches' images, or one request of the most pixels, are opened at a time.
        settings = self.settings
        size = max(len(priced.images) / (2 * settings.max_batch), priced.pixels / settings.max_request_pixels)
        async with lane.turns.turn(len(priced.images), size, priced.cost):
            opened = await self._opened(lane, priced.images, gone)
            scores = await self._scored(lane, opened, priced.prompts)
        self.images.inc(len(opened))
        return scores

    async def _opened(self, lane: Lane, images: list[bytes], gone: Callable[[], Awaitable[bool]]) -> list[Tensor]:
        """As the model sees them. Gone as soon as nobody waits for the answer."""
        loop, opened = asyncio.get_running_loop(), list[Tensor]()
        for start in range(0, len(images), lane.at_once):
            if await gone():
                raise Gone
            some = enumerate(images[start : start + lane.at_once], start)
            opening = [loop.run_in_executor(lane.threads, self._open, lane.model, one, f"image {n}") for n, one in some]
            opened += await asyncio.gather(*opening)
        return opened

    def _open(self, model: RewardModel, image: bytes, what: str) -> Tensor:
        return model.open(from_bytes(image, self.settings.max_pixels, what))

    async def _scored(self, lane: Lane, opened: list[Tensor], prompts: list[str]) -> ScoreDistribution:
        try:
            return await asyncio.wrap_future(lane.batcher.submit(opened, prompts))
        except NotFiniteError as error:  # the model's fault, not the request's
            raise Failed(str(error)) from None
        except (InputError, Closing):
            raise
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            _log.error("a request failed: %s", error)
            raise Failed(f"the model could not score this request: {_short(error)}") from None
        except Exception as error:
            _log.exception("a request failed")
            raise Failed(f"the model could not score this request: {type(error).__name__}: {_short(error)}") from None

    def close(self) -> None:
        """Answer what was accepted, then stop the threads."""
        self._closing = True
        self.quick.close()
        self.slow.close()
        self.reading.shutdown()

    async def reward(
        self,
        images: Sequence[str | bytes],
        prompts: Sequence[str],
        dimensions: Sequence[str] | None,
        gone: Callable[[], Awaitable[bool]],
    ) -> dict[str, Any]:
        """One number per image: the mean expected score over dimensions."""
        names = self.model.check_dimensions(dimensions) if dimensions is not None else self.dimensions
        scores = await self.score(images, prompts, gone)
        rewards = scores.select(names).mean.mean(-1).tolist()
        return self.identity | {"rewards": rewards, "aggregate": f"mean expected score of {', '.join(names)}"}


def _twin(model: RewardModel) -> RewardModel:
    """A copy that shares all weights: modules may keep things of a pass in themselves, and two threads run passes."""
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def _stream(model: RewardModel, priority: int) -> AbstractContextManager[object]:
    """On a GPU a stream of its own, so that a small pass overtakes a large one."""
    if model.device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(model.device, priority=priority))


def _short(error: Exception) -> str:
    return str(error)[:300]
