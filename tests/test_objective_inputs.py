"""What the objectives take: number types, devices, leading dimensions and shapes; and what they refuse."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from zreward.distribution import ScoreScale
from zreward.objectives import (
    bradley_terry_terms_detached,
    group_advantages,
    grpo_loss,
    opd_loss,
    pairwise_reward,
    pointwise_cross_entropy,
    pointwise_reward,
    rewarddance_loss,
    risd_loss,
    score_gap_terms_detached,
    sft_loss,
)
from zreward.objectives.tokens import mean_over_tokens, only_tokens

SCALE = ScoreScale()  # R = 4
T = torch.tensor


def draw(*shape: int, seed: int) -> torch.Tensor:
    return 1 + 4 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_terms_of_every_sequence_match_plain_loops_under_two_leading_dimensions():
    mu, other, target, target_other = (
        draw(2, 3, 4, seed=1),
        draw(2, 3, 4, seed=2),
        draw(2, 3, seed=3),
        draw(2, 3, seed=4),
    )
    gap_terms = score_gap_terms_detached(mu, other, target, target_other, SCALE)
    preference_terms = bradley_terry_terms_detached(mu, other, target, target_other)
    assert gap_terms.shape == preference_terms.shape == (2, 3, 4)
    for a, b, i in itertools.product(range(2), range(3), range(4)):
        gap = target[a, b] - target_other[a, b]
        differences = [mu[a, b, i] - other[a, b, k] for k in range(4)]
        loop = 2 / (4 * 4) * sum(abs(difference - gap) for difference in differences)
        assert gap_terms[a, b, i].item() == pytest.approx(loop.item(), abs=1e-12)
        sign = 1 if gap > 0 else -1
        loop = -2 / 4 * sum(torch.log(1 / (1 + torch.exp(-sign * difference))) for difference in differences)
        assert preference_terms[a, b, i].item() == pytest.approx(loop.item(), abs=1e-12)


def test_labels_take_the_number_type_and_the_device_of_the_scores():
    single = torch.ones(2, 3)
    assert pointwise_reward(single, torch.ones(2, dtype=torch.float64), SCALE).dtype == torch.float32
    # A plain number is as exact as the scores are: 1 - (4.1 - 4) / 4.
    assert pointwise_reward(T([4.0], dtype=torch.float64), 4.1, SCALE).item() == pytest.approx(0.975, abs=1e-15)
    elsewhere = torch.ones(2, 3, device="meta")
    assert pointwise_reward(elsewhere, torch.ones(2), SCALE).device.type == "meta"


def test_targets_take_the_number_type_and_the_device_of_the_log_probabilities():
    log_probs, target = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.float64) / 3
    assert pointwise_cross_entropy(log_probs, target).dtype == torch.float32
    assert risd_loss(log_probs, target).dtype == torch.float32
    assert pointwise_cross_entropy(log_probs.to("meta"), target).device.type == "meta"


def test_numbers_without_a_group_or_bins_are_refused():
    with pytest.raises(ValueError, match="sides of a pair"):
        pairwise_reward(torch.ones(3), T(1.0), T(1.0), T(1.0), SCALE)
    with pytest.raises(ValueError, match="same number of bins"):
        pointwise_cross_entropy(T(0.0), T(1.0))
    with pytest.raises(ValueError, match="same number of bins"):
        pointwise_cross_entropy(torch.zeros(2, 3), torch.ones(3, 2))


def test_what_is_left_out_has_the_papers_usual_value():
    ratio, one = T([[1.5]]).log(), torch.ones(1)
    assert grpo_loss(ratio, one, torch.ones(1, 1), torch.zeros(1, 1)).item() == pytest.approx(-1.2)  # clip 0.2
    chain = T([[-3.0]])
    assert rewarddance_loss(torch.zeros(1, 2), T([[1.0, 0.0]]), chain, torch.ones(1, 1)).item() == 3.0  # weight 1
    # Two values one apart: sample deviation sqrt(1/2), and 1e-4 beside it.
    assert group_advantages(T([0.0, 1.0], dtype=torch.float64))[1].item() == pytest.approx(0.5 / (0.5**0.5 + 1e-4))


@pytest.mark.parametrize(
    ("log_probs", "advantages", "mask"),
    [
        (torch.zeros(3), torch.zeros(3), torch.ones(3)),  # no tokens
        (torch.zeros(0, 3), torch.zeros(0), torch.ones(0, 3)),  # no sequences: the mean would be NaN
        (torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 3)),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3)),
        (torch.zeros(2, 3), torch.zeros(2), torch.ones(2)),
        (torch.zeros(1, 2, 3), torch.zeros(1), torch.ones(1, 2, 3)),
    ],
)
def test_grpo_refuses_other_shapes(log_probs, advantages, mask):
    with pytest.raises(ValueError, match=r"expected \[N, T\], \[N\] and \[N, T\] with N >= 1"):
        grpo_loss(log_probs, advantages, mask)


def test_a_refusal_names_what_does_not_fit_and_nothing_else():
    with pytest.raises(ValueError, match=r"and \{'ref_log_probs': \[2, 2\]\}; expected"):
        grpo_loss(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3), ref_log_probs=torch.zeros(2, 2), beta=0.1)
    with pytest.raises(ValueError, match=r"advantages \[1\], and the rest; expected"):
        grpo_loss(torch.zeros(2, 3), torch.zeros(1), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"beside \{'old_log_probs': \[2, 2\]\}; expected"):
        opd_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 2))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (1, 2, 3)])
def test_opd_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"the rest; expected \[N, T\] for all"):
        opd_loss(torch.zeros(shape), torch.zeros(shape), torch.ones(shape))


def test_what_lies_outside_a_mask_is_zero_and_counts_in_no_mean():
    values = T([[[1.0, math.nan], [2.0, 6.0]], [[-math.inf, 5.0], [math.nan, math.nan]]])
    mask = T([[[True, False], [True, True]], [[False, True], [False, False]]])
    only = only_tokens(values, mask)
    assert only.tolist() == [[[1.0, 0.0], [2.0, 6.0]], [[0.0, 5.0], [0.0, 0.0]]]
    assert mean_over_tokens(only, mask).tolist() == [[1.0, 4.0], [5.0, 0.0]]
    assert mean_over_tokens(torch.ones(1, 2) * 3, T([[True, False]])).tolist() == [3.0]  # of its own tokens only


def test_a_sequence_in_which_nothing_was_sampled_counts_with_zero():
    log_probs, mask = T([[-1.0, -2.0], [-3.0, -4.0]]), T([[1, 0], [0, 0]])
    # A = -2 + 1 for the one token: -((-1 * -1) / 1 + 0) / 2.
    assert opd_loss(log_probs, T([[-2.0, 0.0], [0.0, 0.0]]), mask).item() == -0.5
    assert grpo_loss(log_probs, T([2.0, 9.0]), mask).item() == -1.0


def test_old_and_reference_log_probabilities_carry_no_gradient():
    tensors = [torch.full((1, 2), value, requires_grad=True) for value in (-1.0, -1.5, -2.0)]
    log_probs, old, reference = tensors
    loss = grpo_loss(log_probs, T([1.0]), torch.ones(1, 2), old, reference, beta=0.3, clip=9.0)
    loss = loss + opd_loss(log_probs, reference, torch.ones(1, 2), old)
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    assert found[0] is not None and found[1] is None and found[2] is None


def test_the_weight_of_the_kl_term():
    """KL = e - 1 - 1 at one nat: whole with beta 1; not even looked at with beta 0, where it may be infinite."""
    log_probs, ones = torch.zeros(1, 1), torch.ones(1, 1)
    assert grpo_loss(log_probs, T([0.0]), ones, ref_log_probs=ones, beta=1.0).item() == pytest.approx(math.e - 2)
    assert grpo_loss(log_probs, T([0.0]), ones, ref_log_probs=1e3 * ones, beta=0.0).item() == 0.0


def test_a_bin_without_target_may_be_impossible_in_every_supervised_loss():
    log_probs, target = T([[0.5, 0.5, 0.0]]).log(), T([[1.0, 0.0, 0.0]])
    chains, mask = T([[-1.0, -3.0, -5.0], [-4.0, 0.0, 0.0]]), T([[1, 1, 1], [1, 0, 0]])
    assert sft_loss(log_probs, target).item() == pytest.approx(math.log(2))
    assert risd_loss(log_probs, target).item() == pytest.approx(math.log(2))
    # Chains of three and one tokens: ((1 + 3 + 5) / 3 + 4) / 2.
    assert rewarddance_loss(log_probs, target, chains, mask).item() == pytest.approx(math.log(2) + 3.5)


def test_opd_reads_nothing_outside_the_mask():
    log_probs, ones = T([[-1.0, -math.inf]]), T([[1, 0]])
    junk = T([[-2.0, math.nan]])
    assert opd_loss(log_probs, junk, ones).item() == -1.0  # A = -1
    assert opd_loss(log_probs, junk, ones, T([[-1.5, math.inf]])).item() == -0.5


@pytest.mark.parametrize("wrong", ["mask", "teacher_log_probs"])
def test_opd_names_what_does_not_fit(wrong):
    given = {"log_probs": torch.zeros(2, 3), "teacher_log_probs": torch.zeros(2, 3), "mask": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=rf"beside \{{'{wrong}': \[2, 2\]\}}"):
        opd_loss(**given | {wrong: torch.ones(2, 2)})


@pytest.mark.parametrize("wrong", ["mask", "old_log_probs", "ref_log_probs"])
def test_grpo_names_what_does_not_fit(wrong):
    given = {"log_probs": torch.zeros(2, 3), "advantages": torch.zeros(2), "mask": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=rf"and \{{'{wrong}': \[2, 2\]\}}"):
        grpo_loss(**given | {wrong: torch.ones(2, 2)})
