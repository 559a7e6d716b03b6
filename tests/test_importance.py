"""Importance weights, and the losses that use them, beside plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zreward.objectives import grpo_loss, importance_weights, opd_loss

N, TOKENS = 3, 4


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASK = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]]).bool()


def test_weights_are_cut_ratios_and_one_outside_the_mask():
    policy, sampler = drawn(0, N, TOKENS), drawn(1, N, TOKENS)
    policy[~MASK], sampler[~MASK] = -math.inf, math.nan
    weights = importance_weights(policy.clone().requires_grad_(), sampler, MASK, cap=1.5)
    assert not weights.requires_grad
    found = set()
    for n in range(N):
        for t in range(TOKENS):
            ratio = math.exp(float(policy[n, t]) - float(sampler[n, t])) if MASK[n, t] else 1.0
            found.add(ratio > 1.5)
            assert float(weights[n, t]) == pytest.approx(min(ratio, 1.5), abs=1e-12)
    assert found == {True, False}


def test_weights_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"log_probs \[3, 4\], sampler_log_probs \[3, 3\] and mask \[3, 4\]"):
        importance_weights(drawn(0, N, TOKENS), drawn(1, N, TOKENS - 1), MASK, 2.0)


def test_grpo_weighs_the_policy_gradient_alone():
    log_probs, old, ref = (drawn(seed, N, TOKENS) * 0.2 for seed in (0, 1, 2))
    advantages, weights = drawn(3, N), drawn(4, N, TOKENS).exp()
    weights[~MASK] = math.nan
    loss = grpo_loss(log_probs, advantages, MASK, old, ref, beta=0.3, clip=0.1, weights=weights)
    total = 0.0
    for n in range(N):
        terms = []
        for t in range(TOKENS):
            if MASK[n, t]:
                ratio, advantage = math.exp(log_probs[n, t] - old[n, t]), float(advantages[n])
                gain = min(ratio * advantage, min(max(ratio, 0.9), 1.1) * advantage)
                delta = float(ref[n, t] - log_probs[n, t])
                terms.append(-float(weights[n, t]) * gain + 0.3 * (math.exp(delta) - delta - 1))
        total += sum(terms) / len(terms) / N
    assert float(loss) == pytest.approx(total, abs=1e-12)


def test_opd_weighs_every_token():
    log_probs, teacher, old = (drawn(seed, N, TOKENS) for seed in (0, 1, 2))
    weights = drawn(4, N, TOKENS).exp()
    loss = opd_loss(log_probs, teacher, MASK, old, weights)
    total = 0.0
    for n in range(N):
        own = [t for t in range(TOKENS) if MASK[n, t]]
        terms = [-float(weights[n, t] * (teacher[n, t] - old[n, t]) * log_probs[n, t]) for t in own]
        total += sum(terms) / len(terms) / N
    assert float(loss) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("shape", [(N, TOKENS + 1), (1, TOKENS), (N,)])
def test_losses_refuse_weights_of_another_shape(shape):
    log_probs = drawn(0, N, TOKENS)
    with pytest.raises(ValueError, match=r"\{'weights': \["):
        grpo_loss(log_probs, drawn(1, N), MASK, weights=torch.ones(shape))
    with pytest.raises(ValueError, match=r"\{'weights': \["):
        opd_loss(log_probs, log_probs, MASK, weights=torch.ones(shape))


def test_weights_carry_no_gradient():
    log_probs = drawn(0, N, TOKENS).requires_grad_()
    weights = torch.ones(N, TOKENS, dtype=torch.float64, requires_grad=True)
    (
        grpo_loss(log_probs, drawn(1, N), MASK, weights=weights)
        + opd_loss(log_probs, drawn(2, N, TOKENS), MASK, weights=weights)
    ).backward()
    assert weights.grad is None and log_probs.grad is not None
