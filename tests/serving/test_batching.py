"""Batches: what is put together, who hears of a failure, and that nothing accepted is lost."""

from __future__ import annotations

import threading

import pytest
import torch

from zreward.distribution import ScoreDistribution, ScoreScale
from zreward.serving.batching import Batcher, Closing

PICTURE = torch.zeros(3, 2, 2)
BINS = ScoreScale().bins


def answer(prompts: list[str]) -> ScoreDistribution:
    """A one-hot distribution: the bin that the prompt names."""
    probs = torch.nn.functional.one_hot(torch.tensor([int(prompt) for prompt in prompts]), 9).float()
    return ScoreDistribution(probs[:, None], BINS, ("quality",))


class Gated:
    """A scorer that waits until it is let go, and keeps what it was asked."""

    def __init__(self) -> None:
        self.open, self.begun, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, images, prompts):
        self.seen.append(prompts)
        self.begun.set()
        assert self.open.wait(60)
        if "bad" in prompts:
            raise ValueError("bad prompt")
        return answer(prompts)


def test_requests_that_wait_become_one_batch_and_get_their_own_answers():
    score = Gated()
    batcher = Batcher(score, max_batch=4, max_wait=0.0)
    first = batcher.submit([PICTURE], ["0"])
    assert score.begun.wait(60)
    waiting = [
        batcher.submit([PICTURE] * 2, ["1", "2"]),
        batcher.submit([PICTURE], ["3"]),
        batcher.submit([PICTURE] * 2, ["4", "5"]),
    ]
    score.open.set()
    assert first.result(60).probs.argmax(-1).tolist() == [[0]]
    assert [one.result(60).probs.argmax(-1).flatten().tolist() for one in waiting] == [[1, 2], [3], [4, 5]]
    assert score.seen == [["0"], ["1", "2", "3"], ["4", "5"]]  # the third does not fit into four
    batcher.close()


def test_a_lone_request_waits_for_company_no_longer_than_it_must():
    score = Gated()
    score.open.set()
    batcher = Batcher(score, max_batch=8, max_wait=3600.0)
    both = [batcher.submit([PICTURE] * 4, ["1"] * 4), batcher.submit([PICTURE] * 4, ["2"] * 4)]  # full: no waiting
    assert all(one.result(60) is not None for one in both)
    batcher.close()


def test_one_bad_request_does_not_spoil_the_others():
    score = Gated()
    batcher = Batcher(score, max_batch=4, max_wait=0.0)
    blocker = batcher.submit([PICTURE], ["0"])
    assert score.begun.wait(60)
    good, bad = batcher.submit([PICTURE], ["7"]), batcher.submit([PICTURE], ["bad"])
    score.open.set()
    assert good.result(60).probs.argmax().item() == 7
    with pytest.raises(ValueError, match="bad prompt"):
        bad.result(60)
    assert blocker.result(60) is not None
    batcher.close()


def test_closing_answers_what_was_accepted_and_refuses_the_rest():
    score = Gated()
    batcher = Batcher(score, max_batch=1, max_wait=0.0)
    accepted = [batcher.submit([PICTURE], [str(n)]) for n in range(5)]
    score.open.set()
    batcher.close()
    assert [one.result(0).probs.argmax().item() for one in accepted] == [0, 1, 2, 3, 4]
    with pytest.raises(Closing):
        batcher.submit([PICTURE], ["0"])
