"""Reasoning-Internalized Score Distillation: the student's distribution, without a trace, follows the teacher's.

    (15)  L_RISD = E[ KL( q_T(s | p, I, d, rho_T) || q_phi(s | p, I, d) ) ]     forward KL, teacher frozen

No departure in the loss. Ours is only what may be handed in: `teacher_probs` can be the mean over K traces (K = 1 is the
paper), which keeps the minimum at the average of the teacher's distributions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zreward.objectives.gdso import pointwise_cross_entropy


def risd_loss(student_log_probs: Tensor, teacher_probs: Tensor) -> Tensor:
    """Mean KL(teacher || student); zero when they agree. Source: Eq. 15.

    Args:
        student_log_probs: of the score bins [..., S].
        teacher_probs: [..., S], without gradient; possibly the mean over several traces.

    Returns:
        The loss, (), in nats.
    """
    teacher = teacher_probs.detach().to(student_log_probs)
    entropy = -torch.xlogy(teacher, teacher).sum(-1).mean()
    return pointwise_cross_entropy(student_log_probs, teacher) - entropy
