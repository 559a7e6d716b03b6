"""Where requests are scored: a quick lane and a slow one, with threads and a copy of the model of their own.

    open     pictures decoded and resized, in the lane's threads
    score    batches of the lane's copy of the model; weights are shared  (batching.py)

`Lane` is all that the rest of the server knows of it. A `ModelLane` runs in this process; a `RemoteLane` (link.py) stands for
one in another process.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from zreward.common.errors import InputError, NotFiniteError
from zreward.distribution import ScoreDistribution
from zreward.models.reward_model import RewardModel
from zreward.serving.batching import Batcher, Closing
from zreward.serving.decoding import from_bytes
from zreward.serving.settings import Settings

_TOKENS_PER_PASS = 32 * 1024
_ASIDE = 0.05  # seconds that a module of a slow pass waits for a quick one
_SLOW_NICENESS = 5  # of the slow lane's threads; much more, and a thread that holds Python's lock is not run
_log = logging.getLogger("zreward.serving")


class Failed(Exception):
    """The model could not score a request that seemed fine; the message says why."""


class State(NamedTuple):
    """What a lane tells about itself."""

    waiting: int = 0  # images that wait for the model
    batches: int = 0  # scored so far
    seconds_per_image: float = 0.0  # a running mean


class Lane(Protocol):
    """Scores encoded images that are within all limits."""

    @property
    def state(self) -> State: ...

    async def start(self) -> None:
        """To be awaited once in the event loop that asks for scores."""

    async def score(self, images: Sequence[bytes], prompts: Sequence[str]) -> ScoreDistribution:
        """All dimensions of all images. InputError for what cannot be scored, Closing, Failed."""
        ...

    async def close(self) -> None:
        """Answer what was accepted, then stop."""


Lanes = tuple[Lane, Lane]
"""The quick one and the slow one: a request that costs about as little as one can never waits for one that costs more."""


class ModelLane:
    """A lane in this process."""

    def __init__(
        self,
        model: RewardModel,
        name: str,
        settings: Settings,
        priority: int,
        niceness: int,
        at_work: AtWork | None = None,
    ) -> None:
        """`priority` is that of a GPU's stream, `niceness` that of threads; `at_work` tells others of its passes."""
        self.model, self._most_pixels, self._at_work = model, settings.max_pixels, at_work
        self.names = model.check_dimensions(None)
        # Each thread holds one picture at full size while it shrinks it.
        self._threads = ThreadPoolExecutor(decoders(), f"zreward-{name}", lambda: _be_nice(niceness))
        self.batcher = Batcher(
            self._score, settings.max_batch, settings.max_wait, lambda: _surroundings(model, priority, niceness)
        )

    @property
    def state(self) -> State:
        return State(self.batcher.waiting, self.batcher.batches, self.batcher.seconds_per_image)

    async def start(self) -> None:
        pass

    async def score(self, images: Sequence[bytes], prompts: Sequence[str]) -> ScoreDistribution:
        loop = asyncio.get_running_loop()
        try:
            opening = [loop.run_in_executor(self._threads, self._open, one, n) for n, one in enumerate(images)]
            opened = await asyncio.gather(*opening)
            return await asyncio.wrap_future(self.batcher.submit(opened, prompts))
        except NotFiniteError as error:  # the model's fault, not the request's
            raise Failed(str(error)) from None
        except (InputError, Closing):
            raise
        except (FloatingPointError, torch.OutOfMemoryError, MemoryError) as error:
            _log.error("a request failed: %s", error)
            raise Failed(f"the model could not score this request: {str(error)[:300]}") from None
        except Exception as error:
            _log.exception("a request failed")
            why = f"{type(error).__name__}: {str(error)[:300]}"
            raise Failed(f"the model could not score this request: {why}") from None

    def warm_up(self) -> None:
        """One pass. InputError for a model that cannot score single images, or whose weights are broken."""
        self.model.score([Image.new("RGB", (64, 64), "grey")], "a grey square")

    async def close(self) -> None:
        await asyncio.to_thread(self.batcher.close)
        self._threads.shutdown()

    def _open(self, image: bytes, number: int) -> Tensor:
        return self.model.decode(from_bytes(image, self._most_pixels, f"image {number}"))

    def _score(self, images: list[Tensor], prompts: list[str]) -> ScoreDistribution:
        shown = [(image,) for image in images]
        longest = max(self.model.length(one, prompt, self.names[0]) for one, prompt in zip(shown, prompts, strict=True))
        budget = max(_TOKENS_PER_PASS, longest)
        with self._at_work or nullcontext():
            return self.model.score_opened(shown, prompts, self.names, self.batcher.max_batch, budget)


def model_lanes(model: RewardModel, settings: Settings) -> tuple[ModelLane, ModelLane]:
    """The lanes of a model in this process."""
    at_work, twin = AtWork(), _twin(model)
    at_work.let_pass(twin)
    quick = ModelLane(model, "quick", settings, priority=-1, niceness=0, at_work=at_work)
    return quick, ModelLane(twin, "slow", settings, priority=0, niceness=_SLOW_NICENESS)


class AtWork:
    """Entered while a quick pass runs; a slow one steps aside for it before each of its modules, but never for long."""

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._idle.set()

    def let_pass(self, model: RewardModel) -> None:
        """Make the passes of this model step aside."""
        for module in model.backbone.modules():
            if any(True for _ in module.parameters(recurse=False)):
                module.register_forward_pre_hook(self._step_aside)

    def _step_aside(self, *_: object) -> None:
        self._idle.wait(_ASIDE)


def decoders() -> int:
    """Threads of a lane that open pictures."""
    return max(1, min(8, os.cpu_count() or 1) // 2)


def _twin(model: RewardModel) -> RewardModel:
    """A copy that shares all weights: modules may keep things of a pass in themselves, and two threads run passes."""
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


@contextmanager
def _surroundings(model: RewardModel, priority: int, niceness: int) -> Iterator[None]:
    """On a GPU a stream of its own, so that a small pass overtakes a large one."""
    _be_nice(niceness)  # before the thread's first pass: the threads that it starts for torch inherit it
    if model.device.type != "cuda":
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream(model.device, priority=priority)):
        yield


def _be_nice(niceness: int) -> None:
    """Linux schedules threads by themselves; elsewhere a process has one niceness."""
    if niceness and sys.platform == "linux":
        mine = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, mine, min(19, os.getpriority(os.PRIO_PROCESS, mine) + niceness))
