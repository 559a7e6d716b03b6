"""Roll-outs of a pair of which only votes are known: what GDSO rewards and minimises where there is no score.

Side j of a pair has G outputs with score distributions p[j,i]; v[j] is the share of the votes for it (a tie is half a vote for
each, v[jbar] = 1 - v[j]). P(x > y) counts a tie as half, as in `objectives.preference`.

    w[j,i]   = (1 / G) sum_k P(p[j,i] > p[jbar,k])                  how often the output wins against the other side's
    r[j,i]   = 1 - |w[j,i] - v[j]|                                  reward, in place of (7) and (10)
    L_win    = -(1 / G^2) sum_i sum_k [v[a] log P(p[a,i] > p[b,k]) + v[b] log P(p[b,k] > p[a,i])]        in place of (11)
    l[j,i]   = -(2 / G) sum_k [v[j] log P(p[j,i] > sg(p[jbar,k])) + v[jbar] log P(sg(p[jbar,k]) > p[j,i])]

This departs from the paper, which scores both pictures of every pair:
- a winner says nothing about the scores, so there is no label for (7) and (8), and no gap for (10) and (11). What is asked of the
  outputs instead is that their distributions win as often as people chose;
- r is at most 1, as (7) and (10) are, and weighs lambda_pt + lambda_pw, so that rewards are on the scale of (13);
- L_win weighs alpha_pw; there is no pointwise loss. Nothing in it anchors the scores: the rated pairs beside them do;
- l is L_win's separable form, as (11) has one: averaged over the 2G sequences of both sides it has the gradient of L_win and
  twice its value, and a side needs only the present distributions of its partner.

With rollout.preference_loss bradley_terry the wins of L_win and l are sigma(mu[j,i] - mu[jbar,k]), (12) with shares of votes.
Leading dimensions `...` (pairs) are free. Shapes: G outputs of a side, S bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zreward.objectives.preference import bradley_terry_votes_loss, win_loss


def win_rates(probs: Tensor, probs_other: Tensor) -> Tensor:
    """w: how often each output of one side wins against the outputs of the other, a tie being half a win.

    Args:
        probs: score distributions of one side [..., G, S], bins in rising order; a written score is all on its bin.
        probs_other: of the other side [..., G, S].

    Returns:
        Shares [..., G], in [0, 1].
    """
    below = probs_other.cumsum(-1) - probs_other / 2  # P(other < s) + P(other = s) / 2
    return (probs @ below.transpose(-1, -2)).mean(-1)


def win_rate_reward(probs: Tensor, probs_other: Tensor, share: Tensor) -> Tensor:
    """How near each output's win rate is to the share of the votes for its side.

    Args:
        probs: score distributions of one side [..., G, S].
        probs_other: of the other side [..., G, S].
        share: of the votes, those for the one side, in [0, 1] [...].

    Returns:
        Rewards [..., G], in [0, 1].
    """
    return 1 - (win_rates(probs, probs_other) - share.unsqueeze(-1)).abs()


def group_win_loss(log_probs_a: Tensor, log_probs_b: Tensor, share_a: Tensor) -> Tensor:
    """L_win, the joint form: both sides carry gradients.

    Args:
        log_probs_a: of the score bins, the outputs of a [..., G, S].
        log_probs_b: of b [..., G, S].
        share_a: of the votes, those for a [...].

    Returns:
        The mean over all pairs of outputs, (), in nats.
    """
    return _all_pairs(log_probs_a, log_probs_b, share_a).mean()


def win_terms_detached(log_probs: Tensor, log_probs_other: Tensor, share: Tensor) -> Tensor:
    """l[j,i] of the module's docstring: one term per sequence, for micro-batches.

    Args:
        log_probs: of the score bins [N, S], one sequence each.
        log_probs_other: of the partner's outputs [N, G, S]; carries no gradient.
        share: of the votes, those for the sequence's side [N].

    Returns:
        Terms [N], in nats.
    """
    return 2 * _all_pairs(log_probs.unsqueeze(-2), log_probs_other.detach(), share).mean((-1, -2))


def bradley_terry_votes_terms_detached(mu: Tensor, mu_other: Tensor, share: Tensor) -> Tensor:
    """l[j,i] with Bradley-Terry wins of expected scores.

    Args:
        mu: expected scores [N], one sequence each.
        mu_other: of the partner's outputs [N, G]; carries no gradient.
        share: of the votes, those for the sequence's side [N].

    Returns:
        Terms [N], in nats.
    """
    return 2 * bradley_terry_votes_loss(mu.unsqueeze(-1), mu_other.detach(), share.unsqueeze(-1)).mean(-1)


def _all_pairs(log_probs: Tensor, log_probs_other: Tensor, share: Tensor) -> Tensor:
    """Cross-entropies of every output with every one of the other side, [..., G, S] x2, [...] -> [..., G, G]."""
    one, other = torch.broadcast_tensors(log_probs.unsqueeze(-2), log_probs_other.unsqueeze(-3))
    return win_loss(one, other, share[..., None, None])
