"""RewardDance's style of supervision: the annotated score first, then the reasons for it (the paper's baseline).

    L = L_SFT(score) + w (1 / N) sum_n (1 / T_n) sum_t -log pi(c_t | c_<t, score_n, p_n, I_n, d_n)

c is a post-hoc chain: it follows the score, so that scoring needs no reasoning at test time; it may only shape the model.
RewardDance (arXiv 2509.08826) itself scores by the probability of "yes" against a reference (`zreward.models.pairwise`);
Z-Reward's comparison takes its supervision with score tokens, and so does this loss. The weight w is ours: neither paper
names one.

Shapes: N sequences, S bins, T chain tokens.
"""

from __future__ import annotations

from torch import Tensor

from zreward.objectives.sft import sft_loss
from zreward.objectives.tokens import mean_over_tokens, only_tokens


def rewarddance_loss(
    log_probs: Tensor, target_probs: Tensor, chain_log_probs: Tensor, chain_mask: Tensor, weight: float = 1.0
) -> Tensor:
    """Cross-entropy of the score and mean token loss of the explanation that follows it.

    A sequence without an explanation counts with a token loss of zero.

    Args:
        log_probs: of the score bins [N, S].
        target_probs: target distributions [N, S].
        chain_log_probs: of the tokens [N, T].
        chain_mask: [N, T], true on the explanation's tokens; values outside it are not read.
        weight: w, of the token loss.

    Returns:
        The loss, ().
    """
    mask = chain_mask.bool()
    tokens = mean_over_tokens(only_tokens(chain_log_probs, mask), mask)
    return sft_loss(log_probs, target_probs) - weight * tokens.mean()
