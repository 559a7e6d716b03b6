"""Best of N against a plain loop over all outcomes, and its edge cases."""

import itertools

import pytest
import torch

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution, ScoreScale
from zreward.inference.ranking import overall_distribution, probability_of_best, rank

BINS = ScoreScale(1, 3, 1).bins


def random_scores(count, dimensions, seed=0) -> ScoreDistribution:
    logits = torch.randn(count, len(dimensions), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ScoreDistribution.from_logits(2 * logits, BINS, dimensions)


def test_the_overall_score_is_the_mean_of_independent_dimensions():
    scores = random_scores(2, ("a", "b", "c"))
    values, probs = overall_distribution(scores)
    expected = torch.zeros_like(probs)
    for n, drawn in itertools.product(range(2), itertools.product(range(3), repeat=3)):
        mean = sum(BINS[s].item() for s in drawn) / 3
        at = (values - mean).abs().argmin()
        assert values[at].item() == pytest.approx(mean)
        expected[n, at] += torch.stack([scores.probs[n, d, s] for d, s in enumerate(drawn)]).prod()
    assert torch.allclose(probs, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_probability_of_the_best_counts_every_outcome_and_shares_ties(count):
    probs = random_scores(count, ("a",), seed=count).probs[:, 0]
    expected = torch.zeros(count, dtype=torch.float64)
    for drawn in itertools.product(range(3), repeat=count):
        chance = torch.stack([probs[n, s] for n, s in enumerate(drawn)]).prod()
        winners = [n for n, s in enumerate(drawn) if s == max(drawn)]
        expected[winners] += chance / len(winners)
    assert torch.allclose(probability_of_best(probs), expected)


def test_of_two_candidates_it_is_the_preference_of_the_distribution():
    scores = random_scores(2, ("a",), seed=9)
    best = probability_of_best(scores.probs[:, 0])
    assert best[0].item() == pytest.approx(scores[0:1].prefers(scores[1:2]).item())


def test_many_equal_candidates_share_alike():
    assert torch.allclose(probability_of_best(torch.full((64, 9), 1 / 9)), torch.full((64,), 1 / 64).double())


def test_candidates_are_ranked_within_their_prompt():
    probs = torch.tensor([[[0.8, 0.2, 0.0]], [[0.0, 0.2, 0.8]], [[0.0, 1.0, 0.0]]])
    ranked = rank(["a", "b", "c"], ["p", "p", "q"], ScoreDistribution(probs, BINS, ("quality",)))
    assert [(one.image, one.rank) for one in ranked] == [("b", 1), ("a", 2), ("c", 1)]
    assert ranked[0].best == pytest.approx(0.98)  # it loses or ties only where both draw the middle: 0.2 * 0.2 / 2
    assert ranked[2].best == 1.0 and ranked[2].std == 0.0
    assert ranked[0].dimensions == {"quality": pytest.approx(2.8)}


def test_as_many_images_as_scores_are_expected():
    with pytest.raises(InputError, match="1 images, 1 prompts, 2 scores"):
        rank(["a"], ["p"], random_scores(2, ("a",)))
