"""Correcting for a sampler that is not quite the policy: another engine, other kernels, another number format.

    w_t = min(pi(y_t | y_<t) / q(y_t | y_<t), cap)                       y ~ q, no gradient

Tokens were drawn from q, and the policy gradient expects them from pi: each token's term is weighted by w_t. Cut at `cap`, the
weights have a bounded variance and a small bias: truncated importance sampling (Ionides, "Truncated Importance Sampling",
J. Comput. Graph. Stat. 17(2), 2008), token by token, as TRL (`vllm_importance_sampling_correction`) and verl apply it to
roll-outs. Not in the paper, which does not say what samples.

Shapes: N sequences, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zreward.objectives.tokens import only_tokens


def importance_weights(log_probs: Tensor, sampler_log_probs: Tensor, mask: Tensor, cap: float) -> Tensor:
    """One weight for each sampled token; one outside the mask.

    Args:
        log_probs: [N, T] under the policy as it was when it sampled.
        sampler_log_probs: [N, T] as the sampler computed them.
        mask: [N, T], true where a token was sampled; values outside it are not read.
        cap: the largest weight.

    Returns:
        [N, T], without gradient.

    Raises:
        ValueError: shapes differ.
    """
    if not log_probs.shape == sampler_log_probs.shape == mask.shape:
        raise ValueError(
            f"importance_weights: log_probs {list(log_probs.shape)}, sampler_log_probs {list(sampler_log_probs.shape)} and "
            f"mask {list(mask.shape)}; expected [N, T] for all"
        )
    ratio = only_tokens(log_probs.detach(), mask.bool()) - only_tokens(sampler_log_probs.detach(), mask.bool())
    return torch.exp(ratio).clamp(max=cap)
