"""Group Relative Policy Optimization: advantages within a group of outputs, and the policy-gradient loss on their tokens.

    (3)  A_i = (r_i - mean(r)) / (std(r) + eps)         over the G outputs of one side of a pair
    (4)  L = mean over sequences of mean over its tokens of
             -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) + beta KL
         ratio = exp(log pi - log pi_old),   KL = exp(log pi_ref - log pi) - (log pi_ref - log pi) - 1

Where the paper is silent we follow TRL's `loss_type="grpo"`: sample standard deviation, tokens averaged within a
sequence first (a long trace weighs as much as a short one), the k3 estimate of the KL term, the usual ratio clipping.
The KL term is not weighted by the ratio (TRL: `use_bias_correction_kl=False`). A group of one has no advantage and is
refused; TRL would give it zero.

Shapes: N sequences, T tokens, G outputs in a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zreward.objectives.tokens import mean_over_tokens, only_tokens


def group_advantages(rewards: Tensor, eps: float = 1e-4, *, divide_by_std: bool = True) -> Tensor:
    """Rewards relative to their group. Source: Eq. 3.

    Args:
        rewards: [..., G], with G >= 2 outputs in a group.
        eps: added to the standard deviation before dividing.
        divide_by_std: False leaves out the division (ours): the gap loss narrows a group, and dividing by a small spread
            amplifies noise late in training.

    Returns:
        Advantages [..., G], zero-mean over G.

    Raises:
        ValueError: fewer than two outputs in a group.
    """
    if rewards.ndim == 0 or rewards.shape[-1] < 2:
        raise ValueError(
            f"group_advantages: rewards have shape {list(rewards.shape)}, expected [..., G] with G >= 2; "
            "sample at least two outputs per side"
        )
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True, correction=1) + eps) if divide_by_std else centred


def grpo_loss(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    old_log_probs: Tensor | None = None,
    ref_log_probs: Tensor | None = None,
    beta: float = 0.0,
    clip: float = 0.2,
    weights: Tensor | None = None,
) -> Tensor:
    """Clipped policy gradient with a KL penalty. Source: Eq. 4.

    A sequence with an empty mask counts in the mean with a loss of zero.

    Args:
        log_probs: of the sampled tokens [N, T].
        advantages: of the sequences [N].
        mask: [N, T], true where the policy sampled a token (not forced, not padding); values outside it are not read.
        old_log_probs: [N, T] under the policy that sampled, without gradient; None: the present one, a ratio of one.
        ref_log_probs: [N, T] under the reference, without gradient; needed when beta > 0.
        beta: weight of the KL penalty.
        clip: the ratio is clipped to 1 - clip ... 1 + clip.
        weights: [N, T] of the policy gradient at each token, without gradient (`importance_weights`); None: all one.

    Returns:
        The loss, ().

    Raises:
        ValueError: shapes differ, or beta > 0 without `ref_log_probs`.
    """
    _check_shapes(log_probs, advantages, mask, old_log_probs, ref_log_probs, weights)
    if beta != 0.0 and ref_log_probs is None:
        raise ValueError(f"grpo_loss: beta is {beta}, so ref_log_probs [N, T] are needed; pass them or beta=0")
    mask = mask.bool()
    log_probs = only_tokens(log_probs, mask)
    old = (log_probs if old_log_probs is None else only_tokens(old_log_probs, mask)).detach()
    advantage = advantages.unsqueeze(-1)
    ratio = torch.exp(log_probs - old)
    loss_NT = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    if weights is not None:
        loss_NT = loss_NT * only_tokens(weights.detach(), mask)
    if beta != 0.0 and ref_log_probs is not None:
        delta = only_tokens(ref_log_probs.detach(), mask) - log_probs
        loss_NT = loss_NT + beta * (torch.exp(delta) - delta - 1)
    return mean_over_tokens(loss_NT, mask).mean()


def _check_shapes(
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    old: Tensor | None,
    ref: Tensor | None,
    weights: Tensor | None,
) -> None:
    like_log_probs = {"mask": mask, "old_log_probs": old, "ref_log_probs": ref, "weights": weights}
    wrong = {k: list(v.shape) for k, v in like_log_probs.items() if v is not None and v.shape != log_probs.shape}
    if log_probs.ndim != 2 or len(log_probs) == 0 or advantages.shape != log_probs.shape[:1] or wrong:
        raise ValueError(
            f"grpo_loss: log_probs {list(log_probs.shape)}, advantages {list(advantages.shape)}, and {wrong or 'the rest'}"
            "; expected [N, T], [N] and [N, T] with N >= 1"
        )
