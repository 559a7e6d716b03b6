"""Group-wise Direct Score Optimization: rewards and direct losses on the scores of a same-prompt pair.

Side j in {w, l} of a pair has G outputs with expected scores mu[j,i] and an annotated score s^_j; jbar is the other side.

    (7)   r_pt[j,i] = 1 - |mu[j,i] - s^_j| / R                                            R = scale.max - scale.min
    (8)   L_pt = -(1 / 2G) sum_j sum_i log q[j,i](s^_j)
    (9)   D[j] = s^_j - s^_jbar
    (10)  r_pw[j,i] = 1 - (1 / (G R)) sum_k |(mu[j,i] - mu[jbar,k]) - D[j]|
    (11)  L_pw = (1 / (2 G^2 R)) sum_j sum_i sum_k |(mu[j,i] - mu[jbar,k]) - D[j]|
    (12)  L_BT = -log sigma(mu_w - mu_l)
    (14)  L_GDSO = L_GRPO(r) + alpha_pt L_pt + alpha_pw L_pw,    r = lambda_pt r_pt + lambda_pw r_pw  (13)

Where we depart from the paper:
- (12), which the paper rejects for (11), is kept for the ablation;
- (8) takes a target distribution (raters' histogram, or a score between two bins), of which one bin is the special case;
- (11) also comes in a separable form with the partner detached, so that winner and loser need not share a micro-batch:

      l[j,i] = (2 / (G R)) sum_k |(mu[j,i] - sg(mu[jbar,k])) - D[j]|

  averaged over the 2G sequences. Each (i, k) term of (11) appears once from each side, so the gradient is that of (11)
  and the value is twice (11). Exact while mu[jbar] is the partner's present value: refresh it every optimizer step, as
  with frozen partners each side closes the whole gap alone and the pair overshoots twofold.

Leading dimensions `...` (pairs, dimensions) are free; losses are means over them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.distribution import ScoreScale


def pointwise_reward(mu: Tensor, target: Tensor, scale: ScoreScale) -> Tensor:
    """How near each expected score is to the label. Source: Eq. 7.

    Args:
        mu: expected scores [..., G].
        target: labels [...], one per group.
        scale: the rubric's scale; its range R is the unit of distance.

    Returns:
        Rewards [..., G], at most 1.

    Raises:
        ValueError: labels do not fit the groups. So do all functions of this file.
    """
    return 1 - (mu - _per_side(target, mu)).abs() / scale.range


def pairwise_reward(mu: Tensor, mu_other: Tensor, target: Tensor, target_other: Tensor, scale: ScoreScale) -> Tensor:
    """How near each output's gaps to the partner's outputs are to the labelled gap. Source: Eq. 9, 10.

    Args:
        mu: expected scores of one side [..., G].
        mu_other: of the other side [..., G].
        target: label of the one side [...].
        target_other: of the other side [...].
        scale: the rubric's scale.

    Returns:
        Rewards of the one side [..., G], at most 1.
    """
    return 1 - _gap_errors(mu, mu_other, target, target_other).mean(-1) / scale.range


def pointwise_cross_entropy(log_probs: Tensor, target_probs: Tensor) -> Tensor:
    """Cross-entropy against soft score targets. Source: Eq. 8, soft form ours.

    Args:
        log_probs: of the score bins [..., S]; -inf is harmless where the target is zero.
        target_probs: target distributions [..., S]; leading axes broadcast (one target for all G outputs: [..., 1, S]).

    Returns:
        The mean over all leading axes, (), in nats.
    """
    target = _target_like(target_probs, log_probs)
    return -(target * log_probs.masked_fill(target == 0, 0.0)).sum(-1).mean()


def score_gap_loss(mu_w: Tensor, mu_l: Tensor, target_w: Tensor, target_l: Tensor, scale: ScoreScale) -> Tensor:
    """Error of all G x G gaps between winner and loser. Source: Eq. 11.

    The terms of the two sides are equal, so (11) is the mean over (i, k) of one side's, over R.

    Args:
        mu_w: expected scores of the winners [..., G].
        mu_l: of the losers [..., G].
        target_w: labels of the winners [...].
        target_l: of the losers [...].
        scale: the rubric's scale.

    Returns:
        The loss, ().
    """
    return _gap_errors(mu_w, mu_l, target_w, target_l).mean() / scale.range


def score_gap_loss_detached(
    mu: Tensor, mu_other: Tensor, target: Tensor, target_other: Tensor, scale: ScoreScale
) -> Tensor:
    """One side's part of the gap loss, the partner held fixed. Source: Eq. 11, ours.

    The sum over both sides has exactly the gradient of `score_gap_loss`, and twice its value.

    Args:
        mu: expected scores of this side [..., G].
        mu_other: of the partner [..., G]; carries no gradient.
        target: labels of this side [...].
        target_other: of the partner [...].
        scale: the rubric's scale.

    Returns:
        The loss, ().
    """
    return score_gap_terms_detached(mu, mu_other, target, target_other, scale).mean() / 2


def score_gap_terms_detached(
    mu: Tensor, mu_other: Tensor, target: Tensor, target_other: Tensor, scale: ScoreScale
) -> Tensor:
    """l[j,i] of the module's docstring: one term of the gap loss per sequence, for micro-batches.

    The mean over the 2G sequences of both sides has the gradient of `score_gap_loss`.

    Args:
        mu: expected scores of this side [..., G].
        mu_other: of the partner [..., G]; carries no gradient.
        target: labels of this side [...].
        target_other: of the partner [...].
        scale: the rubric's scale.

    Returns:
        Terms [..., G].
    """
    return _gap_errors(mu, mu_other.detach(), target, target_other).mean(-1) * (2 / scale.range)


def bradley_terry_loss(mu_w: Tensor, mu_l: Tensor) -> Tensor:
    """Mean of -log sigma(mu_w - mu_l) over pairs of scores, [...] x2 (broadcast) -> (). Source: Eq. 12.

    For all cross-side pairs of two groups pass mu_w[..., :, None] and mu_l[..., None, :].
    """
    return -F.logsigmoid(mu_w - mu_l).mean()


def bradley_terry_terms_detached(mu: Tensor, mu_other: Tensor, target: Tensor, target_other: Tensor) -> Tensor:
    """Eq. 12 over all G x G cross-side pairs, one term per sequence, for micro-batches.

    Separable like the gap loss: the mean over the 2G sequences of both sides has the gradient of `bradley_terry_loss`
    over all pairs. Sides with equal labels have no preference and a loss of zero.

    Args:
        mu: expected scores of this side [..., G].
        mu_other: of the partner [..., G]; carries no gradient.
        target: labels of this side [...].
        target_other: of the partner [...].

    Returns:
        Terms [..., G].
    """
    sign = (_per_side(target, mu) - _per_side(target_other, mu)).sign().unsqueeze(-1)
    margin = sign * (mu.unsqueeze(-1) - mu_other.detach().unsqueeze(-2))
    return -2 * (sign.abs() * F.logsigmoid(margin)).mean(-1)


def gdso_loss(
    policy_loss: Tensor, pointwise_loss: Tensor, gap_loss: Tensor, alpha_pt: float, alpha_pw: float
) -> Tensor:
    """The whole objective. Source: Eq. 14.

    Args:
        policy_loss: GRPO's loss, ().
        pointwise_loss: cross-entropy, ().
        gap_loss: score gap loss, ().
        alpha_pt: weight of the pointwise loss.
        alpha_pw: weight of the gap loss.

    Returns:
        The weighted sum, ().
    """
    return policy_loss + alpha_pt * pointwise_loss + alpha_pw * gap_loss


def _gap_errors(mu: Tensor, mu_other: Tensor, target: Tensor, target_other: Tensor) -> Tensor:
    """|(mu[i] - mu_other[k]) - (target - target_other)|, [..., G] x2, [...] x2 -> [..., G, G]."""
    if mu_other.shape[:-1] != mu.shape[:-1] or mu_other.ndim == 0:
        raise ValueError(
            f"the sides of a pair have shapes {list(mu.shape)} and {list(mu_other.shape)}, expected [..., G]"
        )
    gap = _per_side(target, mu) - _per_side(target_other, mu)
    return (mu.unsqueeze(-1) - mu_other.unsqueeze(-2) - gap.unsqueeze(-1)).abs()


def _per_side(target: Tensor, mu: Tensor) -> Tensor:
    """Labels [...] as [..., 1] beside mu [..., G]; refused when they do not fit (broadcasting would mix up G and ...)."""
    target = torch.as_tensor(target, dtype=mu.dtype, device=mu.device)
    try:
        return target.broadcast_to(mu.shape[:-1]).unsqueeze(-1)
    except RuntimeError:
        raise ValueError(
            f"targets have shape {list(target.shape)} beside expected scores {list(mu.shape)}; "
            "expected [...] beside [..., G]: one label per group"
        ) from None


def _target_like(target_probs: Tensor, log_probs: Tensor) -> Tensor:
    if log_probs.ndim == 0 or target_probs.shape[-1:] != log_probs.shape[-1:]:
        raise ValueError(
            f"log_probs {list(log_probs.shape)} and target_probs {list(target_probs.shape)}: expected [..., S] for both, "
            "with the same number of bins S"
        )
    try:
        return target_probs.to(log_probs).broadcast_to(log_probs.shape)
    except RuntimeError:
        raise ValueError(
            f"target_probs {list(target_probs.shape)} do not fit log_probs {list(log_probs.shape)}: expected [..., S]"
        ) from None
