"""Losses and rewards as pure functions of tensors, one file per method; each file opens with its equations."""

from zreward.objectives.coupling import coupling_terms
from zreward.objectives.gdso import (
    bradley_terry_loss,
    bradley_terry_terms_detached,
    gdso_loss,
    pairwise_reward,
    pointwise_cross_entropy,
    pointwise_reward,
    score_gap_loss,
    score_gap_loss_detached,
    score_gap_terms_detached,
)
from zreward.objectives.grpo import group_advantages, grpo_loss
from zreward.objectives.importance import importance_weights
from zreward.objectives.opd import opd_loss
from zreward.objectives.preference import bradley_terry_votes_loss, win_log_probs, win_loss
from zreward.objectives.preferred_rollouts import (
    bradley_terry_votes_terms_detached,
    group_win_loss,
    win_rate_reward,
    win_rates,
    win_terms_detached,
)
from zreward.objectives.rewarddance import rewarddance_loss
from zreward.objectives.risd import risd_loss
from zreward.objectives.sft import sft_loss

__all__ = [
    "bradley_terry_loss",
    "bradley_terry_terms_detached",
    "bradley_terry_votes_loss",
    "bradley_terry_votes_terms_detached",
    "coupling_terms",
    "gdso_loss",
    "group_advantages",
    "group_win_loss",
    "grpo_loss",
    "importance_weights",
    "opd_loss",
    "pairwise_reward",
    "pointwise_cross_entropy",
    "pointwise_reward",
    "rewarddance_loss",
    "risd_loss",
    "score_gap_loss",
    "score_gap_loss_detached",
    "score_gap_terms_detached",
    "sft_loss",
    "win_log_probs",
    "win_loss",
    "win_rate_reward",
    "win_rates",
    "win_terms_detached",
]
