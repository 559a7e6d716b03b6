"""The reward's gradient into a generator against plain loops in float64, in two steps of `optimize`."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from tests.generation.gradients import before_each_step, gradients, make_recipe, prepared, write_inputs
from tests.generation.plain_loop import expected, mean_score, plain_loss
from tests.plain_model import assert_same_gradients, small_model

SHARES = {"alignment": 0.75, "realism": 0.25}


def worst(scores):
    return -0.25 * torch.log(sum(w * torch.exp(-expected(scores[name]) / 0.25) for name, w in SHARES.items()))


def beats(scores, reference):
    won = 0.0
    for name, probs in scores.items():
        for s, p in enumerate(probs):
            won = won + p * (sum(reference[name][:s]) + reference[name][s] / 2)
    return won / len(scores)


def sure_of_it(scores):
    """Mean score, times how much of the mass lies within a point of it; the second factor is a constant."""
    inside = 0.0
    for probs in scores.values():
        values = probs.tolist()
        mu = sum((1 + k / 2) * p for k, p in enumerate(values))
        for k, p in enumerate(values):
            low, high = max(0.75 + k / 2, mu - 1), min(1.25 + k / 2, mu + 1)
            inside += p * max(0.0, high - low) / 0.5 / len(scores)
    return inside * mean_score(scores)


CASES = {
    "all weights": ({}, mean_score),
    "guidance, accumulation": ({"generator__guidance": 2.5, "optimizer__gradient_accumulation": 2}, mean_score),
    "adapter, worst dimension": (
        {
            "generator__lora_rank": 2,
            "reward__aggregate": {"kind": "worst", "weights": {k: 4 * w for k, w in SHARES.items()}},
        },
        worst,
    ),
    "left-out steps, checkpointing": (
        {"gradient__steps": [1, 2], "gradient__skipped": [1, 1], "gradient__checkpointing": True},
        mean_score,
    ),
    "weighed by confidence": ({"reward__confidence": 1.0}, sure_of_it),
    "better than before": ({"reward__aggregate": {"kind": "beats"}, "reward__copies": 2}, beats),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_plain_loop(case, tmp_path, monkeypatch, float64):
    changes, aggregate = CASES[case]
    judge = small_model(0, patch_size=4)
    write_inputs(tmp_path, judge)
    recipe = make_recipe(tmp_path, **changes)
    optimization, draws = prepared(recipe, monkeypatch)
    denoiser = optimization.adaptation.denoiser
    options = SimpleNamespace(
        **{"guidance": recipe.generator.guidance, "anchor": recipe.guards.anchor, "aggregate": aggregate},
        **{"dimensions": recipe.reward.dimensions, "compares": aggregate is beats},
    )
    with optimization.adaptation.frozen() as network:
        start = copy.deepcopy(network)
    seen = []

    def note_draw() -> None:
        own = [d for d in draws if d[2].gradient_steps]  # the others are the frozen generator's pictures
        draws.clear()
        assert len(own) == recipe.optimizer.gradient_accumulation
        losses = [plain_loss(optimization.pipeline, denoiser, start, judge, *d, options) for d in own]
        loss, weights = sum(losses) / len(losses), optimization.adaptation.weights
        wanted = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        assert_same_gradients(gradients(optimization), wanted, f"step {optimization.step}")
        seen.extend(own)

    with before_each_step(note_draw):
        for _ in range(2):
            optimization._train_step()
            optimization.step += 1
    assert len({tuple(seeds) for _, seeds, _ in seen}) == len(seen) == 2 * recipe.optimizer.gradient_accumulation
