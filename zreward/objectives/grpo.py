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
    """Rewards [..., G] -> advantages [..., G], zero-mean over G >= 2 outputs. Source: Eq. 3.

    `divide_by_std=False` leaves out the division (ours): the gap loss narrows a group, and dividing by a small spread
    amplifies noise late in training.
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
) -> Tensor:
    """Clipped policy gradient with a KL penalty, [N, T], [N], [N, T] -> (). Source: Eq. 4.

    `log_probs` are those of the sampled tokens, `mask` is true where a token was sampled by the policy (not forced, not
    padding); values outside it are never read. `old_log_probs` [N, T] belong to the policy that sampled; None means the
    present one, so the ratio is one. `ref_log_probs` [N, T] are needed when beta > 0. Old and reference carry no gradient.
    A sequence with an empty mask counts in the mean with a loss of zero.
    """
    _check_shapes(log_probs, advantages, mask, old_log_probs, ref_log_probs)
    if beta != 0.0 and ref_log_probs is None:
        raise ValueError(f"grpo_loss: beta is {beta}, so ref_log_probs [N, T] are needed; pass them or beta=0")
    mask = mask.bool()
    log_probs = only_tokens(log_probs, mask)
    old = (log_probs if old_log_probs is None else only_tokens(old_log_probs, mask)).detach()
    advantage = advantages.unsqueeze(-1)
    ratio = torch.exp(log_probs - old)
    loss_NT = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    if beta != 0.0 and ref_log_probs is not None:
        delta = only_tokens(ref_log_probs.detach(), mask) - log_probs
        loss_NT = loss_NT + beta * (torch.exp(delta) - delta - 1)
    return mean_over_tokens(loss_NT, mask).mean()


def _check_shapes(log_probs: Tensor, advantages: Tensor, mask: Tensor, old: Tensor | None, ref: Tensor | None) -> None:
    like_log_probs = {"mask": mask, "old_log_probs": old, "ref_log_probs": ref}
    wrong = {k: list(v.shape) for k, v in like_log_probs.items() if v is not None and v.shape != log_probs.shape}
    if log_probs.ndim != 2 or len(log_probs) == 0 or advantages.shape != log_probs.shape[:1] or wrong:
        raise ValueError(
            f"grpo_loss: log_probs {list(log_probs.shape)}, advantages {list(advantages.shape)}, and {wrong or 'the rest'}"
            "; expected [N, T], [N] and [N, T] with N >= 1"
        )
