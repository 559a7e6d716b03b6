"""A run's model says what it was trained on, whatever the method; the run keeps it for when it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zreward.data import load_records
from zreward.data.seen import SEEN_FILE, load_seen, prompt_key
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by
from zreward.training.run import train


@pytest.mark.parametrize("method", ["sft", "gdso"])
def test_the_models_of_a_run(make_recipe, method):
    recipe = make_recipe(method, steps=1)
    final = train(recipe)
    prompts = {prompt_key(record.prompt) for record in load_records(recipe.data.train, check_images=False)}
    seen = seen_by(RewardModel.from_pretrained(final))
    assert set(seen.prompts.tolist()) == prompts
    kept = load_seen(Path(recipe.out) / SEEN_FILE)
    assert np.array_equal(kept.prompts, seen.prompts)
