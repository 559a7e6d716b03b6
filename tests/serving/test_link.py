"""A lane over a socket answers as the lane itself: scores to the bit, errors by their kind, and everybody hears of its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import torch

from tests.serving.running import png
from tests.tiny import tiny_rubric
from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution
from zreward.serving.batching import Closing
from zreward.serving.lanes import Failed, State, model_lanes
from zreward.serving.link import RemoteLane, answer_all
from zreward.serving.settings import Settings

RUBRIC = tiny_rubric()


class Lane:
    """Scores that depend on what came; "wait" waits for ever, other names of `errors` fail with them."""

    errors = {"input": InputError("image 0: broken"), "closing": Closing("closing"), "failed": Failed("no memory")}

    def __init__(self) -> None:
        self.seen: list[tuple[list[bytes], list[str]]] = []
        self.state = State(3, 5, 0.25)
        self.cancelled = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def score(self, images: Sequence[bytes], prompts: Sequence[str]) -> ScoreDistribution:
        self.seen.append((list(images), list(prompts)))
        if prompts[0] in self.errors:
            raise self.errors[prompts[0]]
        if prompts[0] == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        logits = torch.tensor([float(len(image)) for image in images])[:, None, None] * torch.linspace(0, 0.1, 9)
        probs = torch.softmax(logits.expand(-1, len(RUBRIC.dimensions), -1), -1)
        return ScoreDistribution(probs, RUBRIC.scale.bins, RUBRIC.dimension_names)


def play(
    lane: Any, use: Callable[[RemoteLane, socket.socket], Coroutine[Any, Any, None]], rubric: Any = RUBRIC
) -> None:
    """Run `use` with a lane's far end and the near end's socket; then the link must end in peace."""

    async def whole() -> None:
        near, far = socket.socketpair()
        answering = asyncio.create_task(answer_all(lane, near))
        remote = RemoteLane(far, rubric)
        await remote.start()
        await use(remote, near)
        await remote.close()
        await answering

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_scores_and_what_was_sent_arrive_to_the_bit():
    lane = Lane()
    images, prompts = [b"", bytes(range(256)) * 9000, b"\n\0"], ["a \u2713", 'a "quoted"\nline', "\U0001f600"]

    async def use(remote: RemoteLane, _: socket.socket) -> None:
        found = await remote.score(images, prompts)
        assert lane.seen == [(images, prompts)]
        expected = await lane.score(images, prompts)
        assert torch.equal(found.probs, expected.probs) and torch.equal(found.bins, expected.bins)
        assert found.dimensions == expected.dimensions
        assert remote.state == lane.state

    play(lane, use)


def test_answers_find_their_requests_in_any_order():
    async def use(remote: RemoteLane, _: socket.socket) -> None:
        waiting = asyncio.create_task(remote.score([b"x"], ["wait"]))
        sizes = [7, 1, 100]
        found = await asyncio.gather(*(remote.score([b"x" * size], ["p"]) for size in sizes))
        for size, scores in zip(sizes, found, strict=True):
            assert torch.equal(scores.probs, (await Lane().score([b"x" * size], ["p"])).probs)
        waiting.cancel()

    play(Lane(), use)


@pytest.mark.parametrize("name", Lane.errors)
def test_errors_arrive_as_what_they_are(name):
    expected = Lane.errors[name]

    async def use(remote: RemoteLane, _: socket.socket) -> None:
        with pytest.raises(type(expected), match=str(expected)):
            await remote.score([b"x"], [name])

    play(Lane(), use)


def test_when_the_other_process_ends_all_that_wait_hear_of_it_and_nothing_more_is_taken():
    async def use(remote: RemoteLane, near: socket.socket) -> None:
        waiting = [asyncio.create_task(remote.score([b"x"], ["wait"])) for _ in range(3)]
        await asyncio.sleep(0)
        near.shutdown(socket.SHUT_RDWR)
        for one in waiting:
            with pytest.raises(Failed, match="the process of the model has ended"):
                await one
        with pytest.raises(Failed, match="has ended"):
            await remote.score([b"x"], ["p"])
        assert remote.state.waiting == 0

    play(Lane(), use)


def test_when_the_asking_process_ends_nothing_is_scored_for_nobody():
    lane = Lane()

    async def use(remote: RemoteLane, _: socket.socket) -> None:
        waiting = asyncio.create_task(remote.score([b"x"], ["wait"]))
        while not lane.seen:
            await asyncio.sleep(0.01)
        waiting.cancel()

    play(lane, use)
    assert lane.cancelled == 1


def test_a_models_lane_over_a_link(model, pictures):
    quick, slow = model_lanes(model, Settings())

    async def use(remote: RemoteLane, _: socket.socket) -> None:
        found = await remote.score([png(picture) for picture in pictures], ["a red circle"] * len(pictures))
        assert torch.allclose(found.probs, model.score(pictures, "a red circle").probs, atol=1e-5)
        with pytest.raises(InputError, match="image 1"):
            await remote.score([png(pictures[0]), png(pictures[0])[:60]], ["a", "b"])
        assert remote.state.batches == 1
        await quick.close()
        with pytest.raises((Closing, Failed)):
            await remote.score([png(pictures[0])], ["a"])

    play(quick, use, model.rubric)
    asyncio.run(slow.close())
