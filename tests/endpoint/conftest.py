"""The model that the tests' server answers with."""

from __future__ import annotations

import pytest

from tests.tiny import sharpen, tiny_model
from zreward.models.reward_model import RewardModel


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return sharpen(tiny_model("qwen3_vl", seed=1), 3)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> str:
    """Its checkpoint."""
    place = tmp_path_factory.mktemp("judge")
    model.save_pretrained(place)
    return str(place)
