"""Supervised fine-tuning on annotated score tokens, without reasoning (the baseline of the paper's section 4).

    L_SFT = -(1 / N) sum_n sum_s t_n(s) log q(s | p_n, I_n, d_n)

It is Eq. 8 without a trace. Departure: the paper trains on one score token; t may also be a histogram of several raters
or a soft label between two bins, and q is renormalised over the S score labels, as when scoring.
"""

from __future__ import annotations

from torch import Tensor

from zreward.objectives.gdso import pointwise_cross_entropy


def sft_loss(log_probs: Tensor, target_probs: Tensor) -> Tensor:
    """Cross-entropy of score distributions with annotated targets: Eq. 8 without a trace.

    Args:
        log_probs: of the score bins [..., S].
        target_probs: target distributions [..., S].

    Returns:
        The loss, (), in nats.
    """
    return pointwise_cross_entropy(log_probs, target_probs)
