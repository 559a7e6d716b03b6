"""Learning from preferences: which of two pictures people chose, without a score for either.

    P(a > b) = sum_{s > t} p_a(s) p_b(t) + 1/2 sum_s p_a(s) p_b(s)                 a tie is half a win
    L_win    = -mean_n [ v_n log P(a_n > b_n) + (1 - v_n) log P(b_n > a_n) ]
    L_BT     = -mean_n [ v_n log sigma(mu_a - mu_b) + (1 - v_n) log sigma(mu_b - mu_a) ]

v is the share of the votes for a (a tie is half a vote for each), p the score distributions, mu their means. Neither loss is
the paper's: Z-Reward learns from scores. L_win asks that the *distributions* win as often as people chose; with one vote v is 0,
1 or 1/2. L_BT is Eq. 12 with shares of votes, and says nothing about the spread.

Shapes: N pairs, S bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def win_log_probs(log_probs_a: Tensor, log_probs_b: Tensor) -> Tensor:
    """log P(a > b) and log P(b > a) for independent draws, a tie being half a win.

    In the logarithm throughout, so that sharp distributions far apart keep a finite loss and gradient. Minus infinity where
    bins of probability zero leave no way to win.

    Args:
        log_probs_a: of the score bins, in rising order [N, S].
        log_probs_b: [N, S].

    Returns:
        [N, 2].
    """
    return torch.stack([_log_wins(log_probs_a, log_probs_b), _log_wins(log_probs_b, log_probs_a)], -1)


def win_loss(log_probs_a: Tensor, log_probs_b: Tensor, share_a: Tensor) -> Tensor:
    """Cross-entropy of the predicted win rate against the share of the votes, one term per pair.

    Args:
        log_probs_a: of the score bins [N, S].
        log_probs_b: [N, S].
        share_a: of the votes, those for a, in [0, 1] [N].

    Returns:
        Terms [N], in nats.
    """
    wins, losses = win_log_probs(log_probs_a, log_probs_b).unbind(-1)
    return _cross_entropy(wins, losses, share_a)


def bradley_terry_votes_loss(mu_a: Tensor, mu_b: Tensor, share_a: Tensor) -> Tensor:
    """Cross-entropy of the Bradley-Terry win rate of expected scores against the share of the votes, one term per pair.

    Source: Eq. 12, with shares in place of a winner.

    Args:
        mu_a: expected scores [N].
        mu_b: [N].
        share_a: of the votes, those for a, in [0, 1] [N].

    Returns:
        Terms [N], in nats.
    """
    gap = mu_a - mu_b
    return _cross_entropy(F.logsigmoid(gap), F.logsigmoid(-gap), share_a)


def _log_wins(winner: Tensor, loser: Tensor) -> Tensor:
    """log of the sum over s >= t of p(s) q(t), halved where they are equal."""
    S = winner.shape[-1]
    s, t = torch.tril_indices(S, S, device=winner.device)
    halved = winner.new_zeros(len(s)).masked_fill(s == t, -math.log(2))
    return torch.logsumexp(winner[..., s] + loser[..., t] + halved, -1)


def _cross_entropy(log_wins: Tensor, log_losses: Tensor, share: Tensor) -> Tensor:
    return -(torch.where(share > 0, share * log_wins, 0.0) + torch.where(share < 1, (1 - share) * log_losses, 0.0))
