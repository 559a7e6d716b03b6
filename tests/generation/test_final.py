"""The final comparison: which generator, which judge, which seeds; with pictures of known brightness."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.generation.gradients import make_recipe
from zreward.distribution import ScoreDistribution
from zreward.generation import final
from zreward.generation.judges import Judge

LEVEL = {"before": 0.25, "after": 0.75}
BINS = torch.tensor([0.0, 1.0])


@pytest.mark.parametrize("judge", ["oracle", "holdout"])
def test_both_generators_draw_the_same_and_the_named_judge_says_which_is_better(tmp_path, monkeypatch, judge):
    recipe = make_recipe(
        tmp_path, final__judge=judge, final__prompts=2, final__seeds=2, guards__holdout="{student}/../judge-2"
    )
    drawn, asked = [], []

    def draw_all(generator, prompts, seeds, steps, size, what, **options):
        drawn.append((generator, list(prompts), [list(s) for s in seeds], steps, options))
        return torch.full((4, 3, 8, 8), LEVEL[generator])

    class Student:
        device = torch.device("cpu")

        def check_dimensions(self, names):
            return tuple(names)

        def __call__(self, pixels, prompts, names):
            assert list(prompts) == ["one", "one", "two", "two"][: len(prompts)] or list(prompts) == ["two", "two"]
            level = pixels.mean((1, 2, 3))
            probs = torch.stack([1 - level, level], -1)[:, None].expand(-1, len(names), -1)
            return ScoreDistribution(probs, BINS, names)

    def load_judge(name, device=None, reasoning=False):
        asked.append((name, reasoning))
        brightness = lambda images, prompts: np.array([[np.asarray(i).mean() / 51] for i in images])  # noqa: E731
        return Judge(name, ("alignment",), brightness)

    monkeypatch.setattr(final, "load_pipeline", lambda *_: "before")
    monkeypatch.setattr(final, "load_optimized", lambda *_: "after")
    monkeypatch.setattr(final, "load_student", lambda *_: Student())
    monkeypatch.setattr(final, "load_judge", load_judge)
    monkeypatch.setattr(final, "draw_all", draw_all)
    found, _ = final.measure_final(recipe, ["one", "two"], "cpu")
    seeds = [[20_000, 20_001], [20_002, 20_003]]
    assert drawn == [(side, ["one", "two"], seeds, 3, recipe.generator.options) for side in ("before", "after")]
    assert asked == [("oracle" if judge == "oracle" else f"{recipe.student}/../judge-2", False)]
    result = json.loads((tmp_path / "run" / "gsb.json").read_text())
    assert (result["good"], result["same"], result["bad"], result["pairs"]) == (4, 0, 0, 4)
    brighter = [np.round(255 * LEVEL[side]) / 51 for side in ("before", "after")]
    assert [result[f"{judge}_{side}"]["alignment"] for side in ("before", "after")] == pytest.approx(brighter, rel=1e-3)
    assert (result["reward_before"], result["reward_after"]) == pytest.approx((0.25, 0.75))
    assert found.dimensions == ("alignment",)
    assert result["diversity_ratio"] is None  # the pictures of a prompt are all alike


def test_without_a_judge_nothing_is_drawn(tmp_path):
    assert final.measure_final(make_recipe(tmp_path), [], "cpu") is None
    assert not (tmp_path / "run").exists()
