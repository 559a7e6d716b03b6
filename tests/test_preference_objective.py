"""Preference losses beside plain loops in float64, where they are zero, and far from where they are."""

from __future__ import annotations

import math

import pytest
import torch

from zreward.distribution import ScoreDistribution
from zreward.objectives import bradley_terry_votes_loss, win_log_probs, win_loss

S = 5


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, S, generator=generator, dtype=torch.float64) for _ in range(2))
    return a.requires_grad_(), b.requires_grad_(), torch.tensor([1.0, 0.0, 0.5, 0.7, 0.25, 1.0]).double()


def rate(p: list[float], q: list[float]) -> float:
    """P(p > q) + P(tie) / 2."""
    wins = sum(p[s] * q[t] for s in range(len(p)) for t in range(len(q)) if s > t)
    return wins + sum(x * y for x, y in zip(p, q, strict=True)) / 2


def loss_of(p: list[float], q: list[float], share: float) -> float:
    return -share * math.log(rate(p, q)) - (1 - share) * math.log(rate(q, p))


def test_win_rates_by_a_plain_loop(pairs):
    a, b, share = pairs
    found = win_log_probs(a.log_softmax(-1), b.log_softmax(-1))
    terms = win_loss(a.log_softmax(-1), b.log_softmax(-1), share)
    for n, (p, q) in enumerate(zip(a.softmax(-1).tolist(), b.softmax(-1).tolist(), strict=True)):
        assert found[n].exp().tolist() == pytest.approx([rate(p, q), rate(q, p)], abs=1e-12)
        assert terms[n].item() == pytest.approx(loss_of(p, q, share[n].item()), abs=1e-12)
    assert found.exp().sum(-1).tolist() == pytest.approx([1.0] * 6, abs=1e-12)


def test_the_gradient_is_that_of_the_plain_loop(pairs):
    a, b, share = pairs
    win_loss(a.log_softmax(-1), b.log_softmax(-1), share).mean().backward()
    step = 1e-6
    for logits in (a, b):
        numeric = torch.zeros_like(logits)
        for place in range(logits.numel()):
            values = []
            for sign in (1, -1):
                moved = [each.detach().clone() for each in (a, b)]
                moved[0 if logits is a else 1].view(-1)[place] += sign * step
                p, q = (each.softmax(-1).tolist() for each in moved)
                values.append(sum(map(loss_of, p, q, share.tolist())) / len(share))
            numeric.view(-1)[place] = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(logits.grad, numeric, atol=1e-8, rtol=1e-6)


def test_the_rate_is_the_distributions_own_preference(pairs):
    a, b, _ = pairs
    bins = torch.arange(1.0, S + 1)
    own, other = (ScoreDistribution.from_logits(each.detach().float()[:, None], bins, ["x"]) for each in (a, b))
    found = win_log_probs(a.log_softmax(-1), b.log_softmax(-1))[:, 0].exp().float()
    torch.testing.assert_close(found, own.prefers(other)[:, 0])


def test_bradley_terry_by_hand():
    mu_a, mu_b = torch.tensor([3.0, 2.0, 4.0]).double(), torch.tensor([1.0, 2.5, 4.0]).double()
    share = torch.tensor([1.0, 0.25, 0.5])
    found = bradley_terry_votes_loss(mu_a, mu_b, share)
    by_hand = [
        math.log(1 + math.exp(-2)),
        0.25 * math.log(1 + math.exp(0.5)) + 0.75 * math.log(1 + math.exp(-0.5)),
        math.log(2),
    ]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sharp_distributions_far_apart_pull_towards_each_other(dtype):
    """Logits of a thousand: the picture that people chose is certain to lose. The loss is large, not infinite."""
    low = torch.zeros(1, S, dtype=dtype)
    low[0, 0] = 1000.0
    low.requires_grad_()
    high = low.detach().flip(-1).requires_grad_()
    loss = win_loss(low.log_softmax(-1), high.log_softmax(-1), torch.tensor([1.0])).sum()
    loss.backward()
    assert loss.item() == pytest.approx(1000.0, rel=0.01)
    assert low.grad is not None and high.grad is not None
    assert low.grad[0, 0] > 0.4 and high.grad[0, -1] > 0.4 and torch.isfinite(low.grad).all()


@pytest.mark.parametrize("place", range(3))
def test_a_bin_of_probability_zero_passes_no_nan(place):
    logits = torch.tensor([0.0, 1.0, 2.0])
    logits[place] = -torch.inf
    for sides in ((logits, torch.zeros(3)), (torch.zeros(3), logits), (logits, logits)):
        a, b = (each.clone()[None].requires_grad_() for each in sides)
        loss = win_loss(a.log_softmax(-1), b.log_softmax(-1), torch.tensor([1.0])).sum()
        loss.backward()
        assert a.grad is not None and b.grad is not None
        assert torch.isfinite(loss) and torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()


@pytest.mark.parametrize(("share", "loss"), [(1.0, 0.0), (0.5, math.inf), (0.0, math.inf)])
def test_a_picture_that_cannot_lose(share, loss):
    top, bottom = torch.tensor([[-torch.inf, 0.0]]), torch.tensor([[0.0, -torch.inf]])
    assert win_loss(top, bottom, torch.tensor([share])).item() == loss
    assert win_loss(bottom, top, torch.tensor([1 - share])).item() == loss


def test_the_best_answer_wins_as_often_as_people_chose():
    """A pair is learned from shares alone: the win rate arrives at the share, not at certainty."""
    logits = torch.zeros(2, 1, S, dtype=torch.float64, requires_grad=True)
    share = torch.tensor([0.8])
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = win_loss(logits[0].log_softmax(-1), logits[1].log_softmax(-1), share).mean()
        loss.backward()
        optimizer.step()
    rate_a = win_log_probs(logits[0].log_softmax(-1), logits[1].log_softmax(-1))[0, 0].exp().item()
    assert rate_a == pytest.approx(0.8, abs=1e-3)
