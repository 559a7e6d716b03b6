"""Untrained reward models of both families, small enough to run in milliseconds, and pictures to show them."""

from __future__ import annotations

import copy

import pytest
from PIL import Image
from torch import Tensor

import zreward.models.attention
import zreward.models.opening
import zreward.models.sharing
from tests.tiny import FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.reward_model import RewardModel
from zreward.models.shared_prefix import SharedPrefix


@pytest.fixture(scope="session", params=FAMILIES)
def family_model(request) -> RewardModel:
    """One model per family; Qwen3.5's has a linear-attention layer. Tests do not change it."""
    return sharpen(tiny_model(request.param, seed=3), 10 if request.param == "llava" else 8)


@pytest.fixture(scope="session")
def model() -> RewardModel:
    return sharpen(tiny_model(seed=4))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """32 pictures of different sizes and shapes."""
    return noise_pictures(32, ((32, 32), (40, 24), (16, 48), (64, 64)))


@pytest.fixture
def separately(monkeypatch):
    """Run a call with every row read whole."""

    def run(call):
        with monkeypatch.context() as patch:
            patch.setattr(SharedPrefix, "cut", lambda *_, **__: None)
            return call()

    return run


@pytest.fixture
def short_prefixes_stay_apart(monkeypatch) -> None:
    """Attention reads the prefixes of tiny models in place, as it does long ones."""
    monkeypatch.setattr(zreward.models.attention, "LONG", 1)


@pytest.fixture
def short_openings(monkeypatch) -> None:
    """An opening of two tokens is worth a pass of its own."""
    monkeypatch.setattr(zreward.models.sharing, "SHORT_OPENING", 2)


@pytest.fixture
def encoded(monkeypatch) -> list[Tensor]:
    """The ids of every opening that is encoded from now on."""
    found: list[Tensor] = []
    encode = zreward.models.opening._encode
    monkeypatch.setattr(zreward.models.opening, "_encode", lambda b, ids: found.append(ids) or encode(b, ids))
    return found


@pytest.fixture(scope="session")
def _judge() -> RewardModel:
    """A gated-delta layer below one of attention; the self-check is over."""
    model = sharpen(tiny_model(seed=6))
    model.backbone.shared_prefix.right = True
    return model


@pytest.fixture
def judge(_judge) -> RewardModel:
    """One that a test may change."""
    return copy.deepcopy(_judge)
