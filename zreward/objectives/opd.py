"""On-policy distillation: the student writes its own trace and score, the teacher says how likely each token was.

    A_t = log pi_T(y_t | y_<t, .) - log pi_old(y_t | y_<t, .)                      y ~ pi_old, no gradient
    L_OPD = -E[ (1 / T) sum_t A_t log pi(y_t | y_<t, .) ]

pi_old is the policy that sampled. Its expectation is the gradient of the reverse KL per token, KL(pi || pi_T), for a fixed
prefix. No departure: as in the paper's section 4, without ratio or clipping, so it is meant for one update per roll-out.

Shapes: N sequences, T tokens (trace and score label).
"""

from __future__ import annotations

from torch import Tensor

from zreward.objectives.tokens import mean_over_tokens, only_tokens


def opd_loss(
    log_probs: Tensor,
    teacher_log_probs: Tensor,
    mask: Tensor,
    old_log_probs: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Policy gradient with the teacher's log-ratio as every token's advantage. Source: the paper's section 4.

    Args:
        log_probs: of the sampled tokens under the student [N, T].
        teacher_log_probs: under the teacher [N, T]; carries no gradient.
        mask: [N, T], true where the student sampled a token; values outside it are not read.
        old_log_probs: [N, T] under the policy that sampled, without gradient; None: the present one.
        weights: [N, T] of each token, without gradient (`importance_weights`); None: all one.

    Returns:
        The loss, ().

    Raises:
        ValueError: shapes differ.
    """
    given = {"teacher_log_probs": teacher_log_probs, "mask": mask, "old_log_probs": old_log_probs, "weights": weights}
    wrong = {k: list(v.shape) for k, v in given.items() if v is not None and v.shape != log_probs.shape}
    if log_probs.ndim != 2 or len(log_probs) == 0 or wrong:
        raise ValueError(
            f"opd_loss: log_probs {list(log_probs.shape)} beside {wrong or 'the rest'}; expected [N, T] for all"
        )
    mask = mask.bool()
    log_probs, teacher = only_tokens(log_probs, mask), only_tokens(teacher_log_probs, mask)
    old = log_probs if old_log_probs is None else only_tokens(old_log_probs, mask)
    advantage = (teacher - old).detach()
    if weights is not None:
        advantage = advantage * only_tokens(weights.detach(), mask)
    return -mean_over_tokens(advantage * log_probs, mask).mean()
