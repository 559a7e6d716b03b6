"""What an evaluation measures, by plain loops over pictures of a known table of scores: no pipeline draws here."""

from __future__ import annotations

import math
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny import tiny_rubric
from zreward.distribution import ScoreDistribution
from zreward.generation import evaluator
from zreward.generation.adaptation import Adaptation
from zreward.generation.aggregate import Aggregate
from zreward.generation.evaluator import Evaluator
from zreward.generation.judges import Judge
from zreward.generation.recipe import GeneratorRecipe

PROMPTS, NAMES = ["a red circle", "a blue square"], ("realism", "alignment")
ASKED = ["a red circle", "a red circle", "a blue square", "a blue square"]
PICTURES = torch.tensor([1, 2, 4, 7]) / 8  # grey levels, one a picture
BINS = [1 + k / 2 for k in range(9)]


class Student:
    """Answers from a table by (grey level, prompt); pictures and prompts that do not belong together get other numbers."""

    device, rubric, calibrations = torch.device("cpu"), tiny_rubric(), MappingProxyType({})

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.table = {
            (level, prompt): (4 * torch.randn(2, 9, generator=generator)).softmax(-1)
            for level in range(9)
            for prompt in PROMPTS
        }
        for level in (1, 7):  # sure of the best score
            for prompt in PROMPTS:
                self.table[level, prompt][0] = torch.eye(9)[8]

    def __call__(self, pixels, prompts, dimensions) -> ScoreDistribution:
        assert tuple(dimensions) == NAMES
        rows = [self.table[round(8 * p.mean().item()), prompt] for p, prompt in zip(pixels, prompts, strict=True)]
        return ScoreDistribution(torch.stack(rows), torch.tensor(BINS), NAMES)


def judge(name: str, offset: float) -> Judge:
    """Scores that depend on the picture, the prompt and the dimension."""

    def score(images, prompts):
        levels = [np.asarray(image)[0, 0, 0] / 255 for image in images]
        first = [level + (prompt == PROMPTS[1]) for level, prompt in zip(levels, prompts, strict=True)]
        return np.array([[offset + value, offset + 2 * value, offset + 3 * value] for value in first])

    return Judge(name, ("alignment", "beauty", "realism"), score)


@pytest.fixture
def seen(monkeypatch) -> list:
    """What was drawn: (kind, the first weight of the denoiser, prompts, seeds, steps)."""
    found = []

    def weight(pipeline) -> float:
        return next(pipeline.unet.parameters()).flatten()[0].item()

    def draw_all(pipeline, prompts, seeds, steps, size, **options):
        found.append(("pictures", weight(pipeline), list(prompts), [list(s) for s in seeds], steps, size, options))
        return PICTURES[:, None, None, None].expand(4, 3, 32, 32)

    def draw(pipeline, prompts, seeds, plan, **options):
        found.append(("drift", weight(pipeline), list(prompts), list(seeds), plan.steps, plan.gradient_steps, options))
        return SimpleNamespace(calls="calls")

    def drift(calls, frozen):
        found.append(("frozen", next(frozen.parameters()).flatten()[0].item(), calls))
        return torch.tensor(0.125)

    for name, value in (("draw_all", draw_all), ("draw", draw), ("drift", drift)):
        monkeypatch.setattr(evaluator, name, value)
    return found


@pytest.fixture
def adaptation(pipeline) -> Adaptation:
    """The first weight is 1 in the frozen generator, 1.5 in the average, and 3 now."""
    with torch.no_grad():
        next(pipeline.unet.parameters()).flatten()[0] = 1.0
    made = Adaptation(pipeline, GeneratorRecipe(), decay=0.75)
    with torch.no_grad():
        next(iter(made.weights.values())).flatten()[0] = 3.0
    made.update_average()
    return made


def view(adaptation, aggregate, holdout=None, final=None) -> Evaluator:
    how = (holdout, final, 5, 3, {"guidance_scale": 2.0})
    return Evaluator(adaptation, PROMPTS, Student(), NAMES, aggregate, *how)


def expected(probs, d) -> float:
    return sum(b * probs[d][s].item() for s, b in enumerate(BINS))


def test_an_evaluation_by_hand(adaptation, seen):
    weights = {"realism": 3.0, "alignment": 1.0}
    evaluation = view(adaptation, Aggregate(weights=weights), judge("held out", 1.0), judge("oracle", 2.0)).evaluate(7)
    table = Student().table
    items = [table[round(8 * level.item()), prompt] for level, prompt in zip(PICTURES, ASKED, strict=True)]
    means = [[expected(probs, d) for d in (0, 1)] for probs in items]
    assert evaluation.step == 7 and evaluation.drift == 0.125
    assert evaluation.reward == pytest.approx(
        sum((3 * realism + alignment) / 4 for realism, alignment in means) / 4, rel=1e-5
    )
    columns = [[row[d] for row in means] for d in (0, 1)]
    wanted = {name: sum(column) / 4 for name, column in zip(NAMES, columns, strict=True)}
    assert evaluation.student == pytest.approx(wanted, rel=1e-5)
    entropies = [-sum(p * math.log(p) for p in row.tolist() if p > 0) for probs in items for row in probs]
    assert evaluation.entropy == pytest.approx(sum(entropies) / 8, rel=1e-4)
    assert evaluation.saturation == sum(mean > 4.5 for row in means for mean in row) / 8 > 0
    assert evaluation.diversity == pytest.approx((1 / 8 + 3 / 8) / 2, rel=1e-5)
    levels = [round(255 * level.item()) / 255 for level in PICTURES]
    values = [level + (prompt == PROMPTS[1]) for level, prompt in zip(levels, ASKED, strict=True)]
    mean = sum(values) / 4
    assert evaluation.holdout == pytest.approx({"alignment": 1 + mean, "realism": 1 + 3 * mean}, rel=1e-5)  # not beauty
    assert evaluation.final == pytest.approx({"alignment": 2 + mean, "realism": 2 + 3 * mean}, rel=1e-5)


def test_an_evaluation_draws_the_same_seeds_with_the_averaged_weights_and_leaves_the_present_ones(adaptation, seen):
    evaluator = view(adaptation, Aggregate())
    assert evaluator.evaluate(0).holdout == evaluator.evaluate(5).final == {}
    options = {"guidance_scale": 2.0}
    pictures = ("pictures", 1.5, PROMPTS, [[10_000, 10_001], [10_002, 10_003]], 5, 3, options)
    drift = ("drift", 1.5, PROMPTS, [10_000, 10_002], 5, 0, options | {"record": True})
    assert seen == [pictures, drift, ("frozen", 1.0, "calls")] * 2
    assert next(iter(adaptation.weights.values())).flatten()[0].item() == 3.0


def test_what_is_compared_with_is_drawn_once_by_the_frozen_generator(adaptation, seen):
    evaluator = view(adaptation, Aggregate("beats"))
    rewards = [evaluator.evaluate(step).reward for step in (0, 5)]
    drawn = [weight for kind, weight, *_ in seen if kind == "pictures"]
    assert drawn == [1.5, 1.0, 1.5]
    assert rewards == pytest.approx([0.5, 0.5], abs=1e-5)  # the same pictures
