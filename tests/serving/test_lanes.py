"""Two lanes: a quick request is answered while dear ones run, both give the scores of the model, and weights are shared."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from tests.serving.running import running
from tests.tiny import FAMILIES, tiny_model
from zreward.serving import lanes
from zreward.serving.client import RewardClient
from zreward.serving.costs import Prices
from zreward.serving.lanes import ModelLane, model_lanes
from zreward.serving.settings import Settings

PROMPT, LONG = "a red circle", "red " * 300


def test_a_quick_request_is_answered_while_a_dear_one_runs(model, pictures, monkeypatch):
    begun, held = threading.Event(), threading.Event()
    plain = ModelLane._score

    def score(self, images, prompts):
        if LONG in prompts:
            begun.set()
            assert held.wait(60)
        return plain(self, images, prompts)

    monkeypatch.setattr(ModelLane, "_score", score)
    expected = model.score(pictures[:1], LONG)
    with running(model) as url, RewardClient(url) as client, ThreadPoolExecutor(1) as thread:
        dear = thread.submit(client.score, pictures[:1], LONG)
        assert begun.wait(60)
        quick = client.score(pictures[:1], PROMPT)
        assert not dear.done()
        held.set()
        assert torch.allclose(dear.result(60).probs, expected.probs, atol=1e-5)
    assert torch.allclose(quick.probs, model.score(pictures[:1], PROMPT).probs, atol=1e-5)


def test_both_lanes_at_once_give_the_scores_of_the_model(model, pictures):
    expected = {prompt: model.score(pictures, prompt).probs for prompt in (PROMPT, LONG)}
    with running(model) as url, RewardClient(url, chunk=1) as client, ThreadPoolExecutor(4) as threads:
        answers = [(prompt, threads.submit(client.score, pictures, prompt)) for prompt in (PROMPT, LONG) * 3]
        for prompt, answer in answers:
            assert torch.allclose(answer.result(120).probs, expected[prompt], atol=1e-5)


def test_the_lanes_share_all_weights_and_nothing_else(model):
    lanes = model_lanes(model, Settings())
    try:
        one, other = (lane.model for lane in lanes)
        for (name, weight), twin in zip(one.named_parameters(), other.parameters(), strict=True):
            assert weight is twin, name
        modules = zip(one.modules(), other.modules(), strict=True)
        assert all(module is not twin for module, twin in modules)
    finally:
        close(lanes)


def close(lanes) -> None:
    for lane in lanes:
        asyncio.run(lane.close())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_priced_and_scored_in_both_lanes(family):
    model = tiny_model(family)
    prices = Prices(model, Settings())
    picture = Image.new("RGB", (48, 40), "red")
    opened = model.open(picture)
    assert prices.image_tokens(40, 48) == model.layout.tokens(model.layout.grid(opened))
    lanes = model_lanes(model, Settings())
    try:
        expected = model.score([picture], PROMPT).probs
        for lane in lanes:
            lane.warm_up()
            found = lane.batcher.submit([opened], [PROMPT]).result(60).probs
            assert torch.allclose(found, expected, atol=1e-5)
    finally:
        close(lanes)


def test_a_slow_pass_steps_aside_for_a_quick_one_but_ends(monkeypatch):
    """It waits before each of its modules while a quick pass runs, and only as long as it may; scores stay the same."""
    monkeypatch.setattr(lanes, "_ASIDE", 0.001)
    at_work, model, waited = lanes.AtWork(), tiny_model().eval(), []
    picture = [Image.new("RGB", (32, 32), "red")]
    expected = model.score(picture, "a red circle").probs
    at_work.let_pass(model)
    idle, wait = at_work._idle, at_work._idle.wait
    monkeypatch.setattr(idle, "wait", lambda seconds: waited.append(idle.is_set()) or wait(seconds))
    assert torch.equal(model.score(picture, "a red circle").probs, expected)
    assert waited and all(waited)
    waited.clear()
    with at_work:
        assert torch.equal(model.score(picture, "a red circle").probs, expected)
    assert len(waited) > 10 and not any(waited)
    assert idle.is_set()
