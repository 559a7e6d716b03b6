"""Rewards and losses of pairs with votes beside plain loops in float64, and the separable loss beside the joint one."""

from __future__ import annotations

import pytest
import torch
from torch import log

from tests.test_preference_objective import rate
from zreward.objectives import (
    bradley_terry_votes_terms_detached,
    group_win_loss,
    win_rate_reward,
    win_rates,
    win_terms_detached,
)

B, G, S = 3, 4, 5
SHARES = [1.0, 0.5, 0.3]  # for a


@pytest.fixture
def sides() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a and of b, (B, G, S)."""
    generator = torch.Generator().manual_seed(0)
    a, b = (2 * torch.randn(B, G, S, generator=generator, dtype=torch.float64) for _ in range(2))
    return a.requires_grad_(), b.requires_grad_()


def shares(side: int) -> torch.Tensor:
    return torch.tensor([v if side == 0 else 1 - v for v in SHARES], dtype=torch.float64)


def test_rewards_by_a_plain_loop(sides):
    for side in (0, 1):
        p, q = (logits.softmax(-1) for logits in (sides[side], sides[1 - side]))
        found, rates = win_rate_reward(p, q, shares(side)), win_rates(p, q)
        for n in range(B):
            for i in range(G):
                won = sum(rate(p[n, i].tolist(), q[n, k].tolist()) for k in range(G)) / G
                assert rates[n, i].item() == pytest.approx(won, abs=1e-12)
                assert found[n, i].item() == pytest.approx(1 - abs(won - shares(side)[n].item()), abs=1e-12)
    first, second = (win_rates(*(logits.softmax(-1) for logits in pair)) for pair in (sides, sides[::-1]))
    assert (first.mean(-1) + second.mean(-1)).tolist() == pytest.approx([1.0] * B)


def test_written_scores_win_lose_or_tie():
    said = torch.eye(S).double()
    a, b = said[[4, 2]], said[[2, 0]]  # scores by bin: 4 and 2 against 2 and 0
    assert win_rates(a, b).tolist() == [1.0, 0.75] and win_rates(b, a).tolist() == [0.25, 0.0]


def plain_loss(a, b, kind: str):
    """L_win by loops over pairs, outputs and bins, or its Bradley-Terry form on scores 0 to S - 1."""
    total = 0.0
    for n, share in enumerate(SHARES):
        for i in range(G):
            for k in range(G):
                p, q = a[n, i].softmax(-1), b[n, k].softmax(-1)
                if kind == "win_rate":
                    won = sum(p[s] * q[t] * (1.0 if s > t else 0.5) for s in range(S) for t in range(s + 1))
                    lost = sum(q[s] * p[t] * (1.0 if s > t else 0.5) for s in range(S) for t in range(s + 1))
                else:
                    gap = sum(s * (p[s] - q[s]) for s in range(S))
                    won, lost = 1 / (1 + (-gap).exp()), 1 / (1 + gap.exp())
                total = total - share * log(won) - (1 - share) * log(lost)
    return total / (B * G * G)


def terms(sides, side: int, kind: str) -> torch.Tensor:
    """Of one side's sequences; the other side's share no graph with them."""
    own, other = (logits.log_softmax(-1) for logits in (sides[side], sides[1 - side]))
    share = shares(side).repeat_interleave(G)
    if kind == "win_rate":
        return win_terms_detached(own.flatten(0, 1), other.repeat_interleave(G, 0), share)
    mu, partners = (log_probs.exp() @ torch.arange(S).double() for log_probs in (own, other))
    return bradley_terry_votes_terms_detached(mu.flatten(), partners.repeat_interleave(G, 0), share)


@pytest.mark.parametrize("kind", ["win_rate", "bradley_terry"])
def test_the_separable_form_has_the_joint_ones_gradient_and_twice_its_value(sides, kind):
    expected = plain_loss(*sides, kind)
    wanted = torch.autograd.grad(expected, sides)
    both = [terms(sides, side, kind) for side in (0, 1)]
    loss = torch.cat(both).mean()
    assert loss.item() == pytest.approx(2 * expected.item(), abs=1e-12)
    for found, gradient in zip(torch.autograd.grad(loss, sides, retain_graph=True), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-12, rtol=1e-9)
    # One side's terms alone leave the partner where it is.
    assert torch.autograd.grad(both[0].sum(), sides[1], allow_unused=True)[0] is None


def test_the_joint_form_is_the_plain_loop(sides):
    loss = group_win_loss(*(logits.log_softmax(-1) for logits in sides), shares(0))
    expected = plain_loss(*sides, "win_rate")
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    for found, gradient in zip(torch.autograd.grad(loss, sides), torch.autograd.grad(expected, sides), strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-12, rtol=1e-9)


def test_sharp_distributions_far_apart_keep_a_finite_gradient():
    logits = torch.zeros(1, S, dtype=torch.float64)
    logits[0, 0] = 1000.0
    logits.requires_grad_()
    other = torch.zeros(1, 1, S, dtype=torch.float64)
    other[0, 0, -1] = 1000.0
    loss = win_terms_detached(logits.log_softmax(-1), other.log_softmax(-1), torch.ones(1).double()).sum()
    loss.backward()
    assert loss.item() == pytest.approx(2 * (1000 + torch.log(torch.tensor(2 / 3)).item()), rel=1e-2)
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() > 0.1
