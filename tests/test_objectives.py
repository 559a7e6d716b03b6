from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zreward.distribution import ScoreScale
from zreward.objectives import (
    bradley_terry_loss,
    bradley_terry_terms_detached,
    gdso_loss,
    group_advantages,
    grpo_loss,
    opd_loss,
    pairwise_reward,
    pointwise_cross_entropy,
    pointwise_reward,
    rewarddance_loss,
    risd_loss,
    score_gap_loss,
    score_gap_loss_detached,
    score_gap_terms_detached,
    sft_loss,
)

SCALE = ScoreScale()  # R = 4
T = torch.tensor


def close(actual: Tensor, expected, tol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=tol, rtol=0)


def random_pair(*lead: int, group: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return 1 + 4 * torch.rand(shape, generator=generator, dtype=torch.float64)

    return draw(*lead, group).requires_grad_(), draw(*lead, group).requires_grad_(), draw(*lead), draw(*lead)


# --- GRPO


def test_group_advantages_by_hand():
    # Mean 2, sample variance ((-1)^2 + 0 + 1^2) / 2 = 1.
    close(group_advantages(T([1.0, 2.0, 3.0])), [-1 / 1.0001, 0, 1 / 1.0001])
    # Two values one apart: mean .5, sample std sqrt(.5); eps as given.
    close(group_advantages(T([[0.0, 1.0], [2.0, 2.0]]), eps=0.0)[0], [-0.5 / math.sqrt(0.5), 0.5 / math.sqrt(0.5)])
    close(group_advantages(T([2.0, 2.0])), [0, 0])
    close(group_advantages(T([1.0, 2.0, 6.0]), divide_by_std=False), [-2, -1, 3])


@pytest.mark.parametrize("rewards", [T(1.0), T([1.0]), torch.ones(3, 1)])
def test_a_group_of_one_is_refused(rewards):
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(rewards)


def test_grpo_on_policy_value_is_minus_the_advantage_and_gradient_is_reinforce():
    log_probs = torch.randn(3, 4, requires_grad=True)
    mask = T([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    loss = grpo_loss(log_probs, T([2.0, -1.0, 5.0]), mask)
    # Ratios are one: (-2 + 1 + 0) / 3; the empty sequence counts in the mean with zero.
    close(loss, -1 / 3)
    (grad,) = torch.autograd.grad(loss, log_probs)
    # d/dlogp = -A / (tokens N): -2 / (4 * 3), 1 / (2 * 3), 0.
    close(grad, [[-1 / 6] * 4, [1 / 6, 1 / 6, 0, 0], [0.0] * 4])


def test_grpo_clips_the_ratio_as_ppo():
    old = torch.zeros(4, 1)
    log_probs = T([[1.5], [0.5], [1.5], [0.5]]).log().requires_grad_()
    advantages = T([1.0, 1.0, -1.0, -1.0])
    # min(r A, clip(r) A): 1.2, .5, -1.5, -.8; loss is minus their mean = .6 / 4.
    loss = grpo_loss(log_probs, advantages, torch.ones(4, 1), old_log_probs=old, clip=0.2)
    close(loss, 0.15)
    (grad,) = torch.autograd.grad(loss, log_probs)
    # Clipped entries have no gradient; else -A r / 4.
    close(grad, [[0.0], [-0.125], [0.375], [0.0]])


def test_grpo_kl_by_hand():
    # delta = log(.5) - log(1) = -ln 2: exp(delta) - delta - 1 = .5 + ln 2 - 1.
    loss = grpo_loss(T([[0.0]]), T([0.0]), T([[1]]), ref_log_probs=T([[0.5]]).log(), beta=0.1)
    close(loss, 0.1 * (math.log(2) - 0.5))
    with pytest.raises(ValueError, match="ref_log_probs"):
        grpo_loss(T([[0.0]]), T([0.0]), T([[1]]), beta=0.1)


def test_grpo_matches_a_plain_loop():
    torch.manual_seed(1)
    lp, old, ref = (-torch.rand(5, 6, dtype=torch.float64) for _ in range(3))
    adv, mask = torch.randn(5, dtype=torch.float64), torch.rand(5, 6) > 0.4
    total = 0.0
    for n in range(5):
        tokens = []
        for t in range(6):
            if mask[n, t]:
                r, a = math.exp(lp[n, t] - old[n, t]), float(adv[n])
                d = float(ref[n, t] - lp[n, t])
                clipped = min(max(r, 0.7), 1.3)
                tokens.append(-min(r * a, clipped * a) + 0.04 * (math.exp(d) - d - 1))
        total += sum(tokens) / len(tokens) if tokens else 0.0
    close(grpo_loss(lp, adv, mask, old, ref, beta=0.04, clip=0.3), total / 5, tol=1e-12)


def test_grpo_never_reads_outside_the_mask():
    log_probs = T([[-1.0, -math.inf], [math.nan, -math.inf]], requires_grad=True)
    junk = T([[-1.0, math.nan], [math.inf, math.nan]])
    loss = grpo_loss(log_probs, T([1.0, 1.0]), T([[True, False], [False, False]]), junk, junk, beta=0.5)
    close(loss, -0.5)
    (grad,) = torch.autograd.grad(loss, log_probs)
    close(grad, [[-0.5, 0.0], [0.0, 0.0]])


def test_grpo_refuses_wrong_shapes():
    with pytest.raises(ValueError, match=r"expected \[N, T\]"):
        grpo_loss(torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="old_log_probs"):
        grpo_loss(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3), old_log_probs=torch.zeros(2, 2))


# --- GDSO


def test_rewards_by_hand():
    # R = 4: 1 - |3 - 4| / 4, 1 - |4.5 - 4| / 4.
    close(pointwise_reward(T([3.0, 4.5]), T(4.0), SCALE), [0.75, 0.875])
    # Gap 4 - 2 = 2. Output 4.0: gaps to (2, 3) are 2, 1 -> errors 0, 1. Output 3.0: 1, 0 -> errors 1, 2.
    reward = pairwise_reward(T([4.0, 3.0]), T([2.0, 3.0]), T(4.0), T(2.0), SCALE)
    close(reward, [1 - (0 + 1) / 8, 1 - (1 + 2) / 8])


def test_score_gap_loss_by_hand():
    # The four errors above: 0, 1, 1, 2; (11) is 4 / (G^2 R) = 4 / (4 * 4).
    args = T([4.0, 3.0]), T([2.0, 3.0]), T(4.0), T(2.0)
    close(score_gap_loss(*args, SCALE), 0.25)
    # l[w,i] = 2 / (G R) times the row sums 1, 3; l[l,i] the same with the column sums 1, 3.
    close(score_gap_terms_detached(*args, SCALE), [0.25, 0.75])
    close(score_gap_terms_detached(args[1], args[0], args[3], args[2], SCALE), [0.25, 0.75])
    close(score_gap_loss_detached(*args, SCALE), 0.25)


def test_group_functions_match_plain_loops_over_both_sides():
    mu_w, mu_l, t_w, t_l = random_pair(2, 3, group=4)
    reward = pairwise_reward(mu_w, mu_l, t_w, t_l, SCALE)
    pointwise = pointwise_reward(mu_w, t_w, SCALE)
    exact = score_gap_loss(mu_w, mu_l, t_w, t_l, SCALE)
    mu_w, mu_l = mu_w.detach(), mu_l.detach()
    total = 0.0
    for b in range(2):
        for d in range(3):
            sides = [(mu_w[b, d], mu_l[b, d], t_w[b, d] - t_l[b, d]), (mu_l[b, d], mu_w[b, d], t_l[b, d] - t_w[b, d])]
            for mu, other, gap in sides:
                total += float(sum(abs(x - y - gap) for x in mu for y in other)) / (2 * 4 * 4 * 4)
            for i in range(4):
                loop = 1 - sum(abs(mu_w[b, d, i] - y - sides[0][2]) for y in mu_l[b, d]) / (4 * 4)
                close(reward[b, d, i], loop, 1e-12)
                close(pointwise[b, d, i], 1 - abs(mu_w[b, d, i] - t_w[b, d]) / 4, 1e-12)
    close(exact, total / 6, 1e-12)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_detached_gap_loss_has_the_gradient_of_the_exact_one(lead):
    mu_w, mu_l, t_w, t_l = random_pair(*lead)
    exact = score_gap_loss(mu_w, mu_l, t_w, t_l, SCALE)
    side_w = score_gap_loss_detached(mu_w, mu_l, t_w, t_l, SCALE)
    side_l = score_gap_loss_detached(mu_l, mu_w, t_l, t_w, SCALE)
    terms = torch.cat(
        [
            score_gap_terms_detached(mu_w, mu_l, t_w, t_l, SCALE).flatten(),
            score_gap_terms_detached(mu_l, mu_w, t_l, t_w, SCALE).flatten(),
        ]
    )
    expected = torch.autograd.grad(exact, (mu_w, mu_l))
    for loss in (side_w + side_l, terms.mean()):
        close(loss, 2 * exact.item(), 1e-12)
        for got, want in zip(torch.autograd.grad(loss, (mu_w, mu_l), retain_graph=True), expected, strict=True):
            close(got, want, 1e-12)
    (partner,) = torch.autograd.grad(side_w, mu_l, allow_unused=True, retain_graph=True)
    assert partner is None


def test_gap_loss_gradients_match_finite_differences():
    mu_w, mu_l, t_w, t_l = random_pair(2)
    assert torch.autograd.gradcheck(lambda a, b: score_gap_loss(a, b, t_w, t_l, SCALE), (mu_w, mu_l))


def test_labels_that_do_not_fit_the_groups_are_refused():
    with pytest.raises(ValueError, match="one label per group"):
        pointwise_reward(torch.ones(3), torch.ones(3), SCALE)
    with pytest.raises(ValueError, match="one label per group"):
        score_gap_loss(torch.ones(2, 4), torch.ones(2, 4), torch.ones(4), torch.ones(2), SCALE)
    with pytest.raises(ValueError, match="sides of a pair"):
        pairwise_reward(torch.ones(2, 4), torch.ones(3, 4), torch.ones(2), torch.ones(2), SCALE)


def test_other_scales_set_the_normaliser():
    close(pointwise_reward(T([3.0]), T(4.0), ScoreScale(0, 10, 1)), [0.9])


def test_cross_entropy_by_hand():
    log_probs = T([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]).log()
    # Row 1: all on the middle: ln 2. Row 2: half on .5, half on .25: .5 ln 2 + .5 ln 4 = 1.5 ln 2. Mean 1.25 ln 2.
    target = T([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    close(pointwise_cross_entropy(log_probs, target), 1.25 * math.log(2))
    close(sft_loss(log_probs, target), 1.25 * math.log(2))
    # Leading dimensions, and one target for a group.
    close(pointwise_cross_entropy(log_probs.expand(3, 2, 3), target[None, :1]), (math.log(2) + math.log(4)) / 2)


def test_cross_entropy_gradient_is_softmax_minus_target():
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    target = torch.softmax(torch.randn(3, 5, dtype=torch.float64), -1)
    (grad,) = torch.autograd.grad(pointwise_cross_entropy(logits.log_softmax(-1), target), logits)
    close(grad, (logits.softmax(-1) - target).detach() / 3, 1e-12)


def test_impossible_bins_without_target_are_harmless():
    log_probs = T([0.5, 0.5, 0.0]).log().requires_grad_()
    loss = pointwise_cross_entropy(log_probs, T([1.0, 0.0, 0.0]))
    close(loss, math.log(2))
    close(torch.autograd.grad(loss, log_probs)[0], [-1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="same number of bins"):
        pointwise_cross_entropy(log_probs, T([1.0, 0.0]))
    with pytest.raises(ValueError, match="do not fit"):
        pointwise_cross_entropy(log_probs.expand(2, 3), torch.ones(4, 3) / 3)


def test_bradley_terry_by_hand():
    # -log sigma(0) = ln 2; -log sigma(ln 3) = -ln(3/4).
    close(bradley_terry_loss(T([2.0, math.log(3)]), T([2.0, 0.0])), (math.log(2) + math.log(4 / 3)) / 2)
    close(bradley_terry_loss(T(-200.0), T(0.0)), 200.0)  # no overflow


def test_gdso_loss_adds_the_three_parts():
    close(gdso_loss(T(1.0), T(2.0), T(3.0), alpha_pt=0.5, alpha_pw=0.1), 2.3)


# --- RISD


def test_risd_is_the_forward_kl():
    teacher = T([[0.5, 0.5, 0.0]])
    # KL = .5 ln(.5 / .25) + .5 ln(.5 / .5) = .5 ln 2; the zero bin adds nothing.
    close(risd_loss(T([[0.25, 0.5, 0.25]]).log(), teacher), 0.5 * math.log(2))
    close(risd_loss(T([[0.5, 0.5, 0.0]]).log(), teacher), 0.0)


def test_risd_matches_torch_and_leaves_the_teacher_alone():
    student = torch.randn(2, 3, 9, dtype=torch.float64).log_softmax(-1).requires_grad_()
    teacher = torch.randn(2, 3, 9, dtype=torch.float64).softmax(-1).requires_grad_()
    loss = risd_loss(student, teacher)
    expected = torch.nn.functional.kl_div(student.reshape(6, 9), teacher.reshape(6, 9), reduction="batchmean")
    close(loss, expected.detach(), 1e-12)
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None


# --- Bradley-Terry in place of the gap loss


def test_detached_bradley_terry_has_the_gradient_of_all_cross_pairs():
    mu_w, mu_l, target_w, target_l = random_pair(3)
    target_w, target_l = torch.maximum(target_w, target_l) + 0.1, torch.minimum(target_w, target_l)
    exact = bradley_terry_loss(mu_w[..., :, None], mu_l[..., None, :])
    wanted = torch.autograd.grad(exact, (mu_w, mu_l))
    terms = [
        bradley_terry_terms_detached(mu_w, mu_l, target_w, target_l),
        bradley_terry_terms_detached(mu_l, mu_w, target_l, target_w),
    ]
    loss = torch.stack(terms).mean()
    close(loss, 2 * exact.detach())
    for got, want in zip(torch.autograd.grad(loss, (mu_w, mu_l)), wanted, strict=True):
        close(got, want)


def test_bradley_terry_has_no_opinion_on_ties():
    mu_w, mu_l, target, _ = random_pair(2)
    close(bradley_terry_terms_detached(mu_w, mu_l, target, target), torch.zeros(2, 4))


# --- OPD


def test_opd_by_hand():
    """Two sequences of two and one tokens: A = log pi_T - log pi, averaged over tokens, then over sequences."""
    log_probs = T([[-1.0, -2.0], [-0.5, -9.0]], requires_grad=True)
    teacher = T([[-0.5, -3.0], [-1.5, 7.0]])
    mask = T([[1, 1], [1, 0]])
    loss = opd_loss(log_probs, teacher, mask)
    # A = [[.5, -1], [-1]];  -((.5 * -1 + -1 * -2) / 2 + (-1 * -.5) / 1) / 2 = -(.75 + .5) / 2
    close(loss, -0.625)
    loss.backward()
    close(log_probs.grad, [[-0.5 / 4, 1 / 4], [1 / 2, 0]])


def test_opd_advantage_is_that_of_the_policy_that_sampled():
    log_probs = T([[-1.0, -2.0]], requires_grad=True)
    old, teacher = T([[-2.0, -2.0]]), T([[-1.0, -2.0]])
    loss = opd_loss(log_probs, teacher, torch.ones(1, 2), old)
    close(loss, 0.5)  # A = [1, 0]; -(1 * -1) / 2
    loss.backward()
    close(log_probs.grad, [[-0.5, 0.0]])


def test_opd_expects_the_gradient_of_the_reverse_kl():
    """Over all tokens of a vocabulary of three, weighted by pi, the gradient is that of KL(pi || pi_T)."""
    logits = T([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    teacher = T([0.1, 0.6, 0.3], dtype=torch.float64).log()
    log_pi = logits.log_softmax(-1)
    reverse_kl = (log_pi.exp() * (log_pi - teacher)).sum()
    (wanted,) = torch.autograd.grad(reverse_kl, logits)
    got = torch.zeros(3, dtype=torch.float64)
    for token in range(3):
        log_pi = logits.log_softmax(-1)
        loss = opd_loss(log_pi[token].view(1, 1), teacher[token].view(1, 1), torch.ones(1, 1))
        got += log_pi[token].exp().detach() * torch.autograd.grad(loss, logits)[0]
    close(got, wanted)


def test_opd_ignores_what_lies_outside_the_mask_and_refuses_other_shapes():
    log_probs = T([[-1.0, float("-inf")]], requires_grad=True)
    loss = opd_loss(log_probs, T([[-2.0, float("nan")]]), T([[1, 0]]))
    loss.backward()
    assert torch.isfinite(log_probs.grad).all()
    with pytest.raises(ValueError, match=r"teacher_log_probs.*\[1, 3\]"):
        opd_loss(log_probs, torch.zeros(1, 3), torch.ones(1, 2))


# --- RewardDance


def test_rewarddance_by_hand():
    """Score cross-entropy -log .5, and chains of two and one tokens: -(-1 - 3) / 2 = 2 and 4, mean 3, weight 1/2."""
    log_probs = T([[0.5, 0.5], [0.5, 0.5]]).log()
    target = T([[1.0, 0.0], [0.0, 1.0]])
    chains, mask = T([[-1.0, -3.0], [-4.0, float("-inf")]]), T([[1, 1], [1, 0]])
    close(rewarddance_loss(log_probs, target, chains, mask, weight=0.5), math.log(2) + 1.5)
    close(rewarddance_loss(log_probs, target, chains, torch.zeros(2, 2)), math.log(2))
