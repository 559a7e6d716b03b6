"""Untrained reward models of both families, small enough to run in milliseconds, and pictures to show them."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.tiny import FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.reward_model import RewardModel


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
