"""Confidence against plain loops in float64; what it does to rewards and to their gradient."""

import pytest
import torch

from tests.tiny import sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution
from zreward.generation import Aggregate, reward_function
from zreward.generation.confidence import confidence_of, drawn_to_mean
from zreward.models.calibration import Calibration, Recalibration

BINS = [1 + k / 2 for k in range(9)]


def random_scores(count: int = 6, seed: int = 0) -> ScoreDistribution:
    logits = 2 * torch.randn(count, 2, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ScoreDistribution(logits.softmax(-1), torch.tensor(BINS), ("a", "b"))


def plain(probs, within: float) -> float:
    """Share of the mass within so many points of its mean, each bin spread evenly over half a point."""
    mu = sum(p * b for p, b in zip(probs, BINS, strict=True))
    total = 0.0
    for p, b in zip(probs, BINS, strict=True):
        low, high = max(b - 0.25, mu - within), min(b + 0.25, mu + within)
        total += p * max(0.0, high - low) / 0.5
    return total


@pytest.mark.parametrize("within", [0.1, 0.5, 1.0, 2.0])
def test_confidence_is_that_of_a_plain_loop(within):
    """Catches a bin counted whole or not at all, the wrong mean, weights that are not normalised."""
    scores = random_scores()
    rows = scores.probs.tolist()
    wanted = [(3 * plain(a, within) + plain(b, within)) / 4 for a, b in rows]
    assert confidence_of(scores, within, {"a": 3.0, "b": 1.0}).tolist() == pytest.approx(wanted, abs=1e-12)
    assert all(0 <= value <= 1 for value in confidence_of(scores, within, {}).tolist())


def test_rewards_are_drawn_to_the_mean_of_their_prompt():
    rewards, sure = torch.tensor([1.0, 3.0, 4.0, 5.0]), torch.tensor([0.5, 1.0, 0.0, 0.5])
    assert drawn_to_mean(rewards, sure, ["x", "x", "y", "y"]).tolist() == [1.5, 3.0, 4.5, 4.75]
    mean = 13 / 4
    wanted = [mean + c * (r - mean) for r, c in zip(rewards.tolist(), sure.tolist(), strict=True)]
    assert drawn_to_mean(rewards, sure, ["x", "y", "z", "w"]).tolist() == pytest.approx(wanted)


def test_the_weight_carries_no_gradient():
    """Catches a missing detach: the weight's own gradient would pay for sharper distributions."""
    logits = torch.randn(4, 2, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    scores = ScoreDistribution(logits.softmax(-1), torch.tensor(BINS), ("a", "b"))
    rewards, sure = Aggregate()(scores), confidence_of(scores, 1.0, {})
    assert not sure.requires_grad
    (found,) = torch.autograd.grad(drawn_to_mean(rewards, sure, list("xxyy")).sum(), logits, retain_graph=True)
    wanted = torch.zeros_like(logits)
    for n, weight in enumerate(sure.tolist()):
        for d in range(2):  # d mu / d logit_s = p_s (b_s - mu)
            probs = scores.probs[n, d].tolist()
            mu = sum(p * b for p, b in zip(probs, BINS, strict=True))
            for s, (p, b) in enumerate(zip(probs, BINS, strict=True)):
                wanted[n, d, s] = weight * p * (b - mu) / 2
    assert torch.allclose(found, wanted, atol=1e-12)


def test_the_function_weighs_by_the_calibrated_distribution():
    student = sharpen(tiny_model())
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = ["a large red circle"] * 2 + ["a small blue cross"] * 2
    plain_rewards, _ = reward_function(student)(pixels, prompts, None)
    assert reward_function(student, confidence=100.0)(pixels, prompts, None)[0] == pytest.approx(plain_rewards)
    found, _ = reward_function(student, confidence=0.5)(pixels, prompts, None)
    names = student.rubric.dimension_names
    student.calibrations = {"direct": Calibration("temperature", {name: Recalibration(2.0) for name in names})}
    wide, _ = reward_function(student, confidence=0.5)(pixels, prompts, None)
    scores = student(pixels, prompts).detach()
    means, sure = scores.mean.mean(1), confidence_of(scores, 0.5, {})
    centre = torch.tensor([(means[0] + means[1]) / 2] * 2 + [(means[2] + means[3]) / 2] * 2)
    assert wide == pytest.approx((centre + sure * (means - centre)).tolist(), abs=1e-5)
    assert wide != pytest.approx(found, abs=1e-5)
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="expected score points above 0"):
            reward_function(student, confidence=wrong)
