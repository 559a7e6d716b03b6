"""The objectives of the roll-out trainer. The methods differ only here.

Shapes: M sequences, T tokens, G traces per side, S bins. Where the policy also samples the score's label (rewards parsed
from text, OPD), that label is its last token and has its own column after the trace's T.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from zreward.distribution import ScoreScale
from zreward.models.backbone import BackboneOutput
from zreward.models.inputs import ModelInput
from zreward.objectives import (
    bradley_terry_terms_detached,
    gdso_loss,
    grpo_loss,
    importance_weights,
    opd_loss,
    pairwise_reward,
    pointwise_cross_entropy,
    pointwise_reward,
    score_gap_terms_detached,
)
from zreward.objectives.tokens import mean_over_tokens
from zreward.training.preferred_rollouts import VotedSequences
from zreward.training.recipe import RolloutRecipe


@dataclass(frozen=True)
class Sequences:
    """M sequences of a roll-out (or a slice of them), with everything an objective needs; what it does not need is None."""

    inputs: ModelInput
    labels: Tensor | None = None  # (M,): the score bin that was sampled, when one was
    advantages: Tensor | None = None  # (M,)
    score: Tensor | None = None  # (M,): the annotated score of each sequence's side
    target: Tensor | None = None  # (M, S)
    partner_mu: Tensor | None = None  # (M, G): the other side's expected scores, under the present weights
    partner_score: Tensor | None = None  # (M,)
    voted: VotedSequences | None = (
        None  # where some of them are of pairs with votes: their scores and target mean nothing
    )
    old_log_probs: Tensor | None = None  # (M, T), from the second update on
    sampler_log_probs: Tensor | None = None  # (M, T) of traces that an engine sampled, as it computed them
    ref_log_probs: Tensor | None = None  # (M, T), when beta > 0
    teacher_log_probs: Tensor | None = None  # (M, T), for OPD

    def rows(self, chosen: slice) -> Sequences:
        parts = {key: value[chosen] for key, value in vars(self).items() if isinstance(value, Tensor)}
        voted = self.voted and self.voted.rows(chosen)
        return replace(self, inputs=self.inputs.rows(chosen), voted=voted, **parts)


class Objective:
    """What a roll-out method rewards, and the loss that it minimises."""

    def samples_label(self, options: RolloutRecipe) -> bool:
        """Whether the policy writes its score as one more token of the sequence."""
        return options.reward_from == "parsed"

    def reward(self, said_BJG: Tensor, score_BJ: Tensor, options: RolloutRecipe, scale: ScoreScale) -> Tensor:
        """(B, J, G): of every trace, from its score and the annotated ones."""
        raise NotImplementedError

    def __call__(
        self, output: BackboneOutput, mu: Tensor, sequences: Sequences, options: RolloutRecipe, scale: ScoreScale
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of these sequences, whose expected scores are `mu` (M,), and the parts of it that are logged."""
        raise NotImplementedError


class Grpo(Objective):
    """Eq. 4: the policy gradient alone, rewarded by closeness to the annotated score (Eq. 7)."""

    def reward(self, said_BJG, score_BJ, options, scale):
        return options.lambda_pt * pointwise_reward(said_BJG, score_BJ, scale)

    def __call__(self, output, mu, sequences, options, scale):
        loss, parts = _policy_loss(output, sequences, options)
        return loss, {"policy_loss": loss, **parts}


class Gdso(Grpo):
    """Eq. 13 and 14, with the gap loss in its separable form: gradient of (11), twice its value."""

    def reward(self, said_BJG, score_BJ, options, scale):
        pairwise = pairwise_reward(said_BJG, said_BJG.flip(1), score_BJ, score_BJ.flip(1), scale)
        return super().reward(said_BJG, score_BJ, options, scale) + options.lambda_pw * pairwise

    def __call__(self, output, mu, sequences, options, scale):
        losses = _scored_losses if sequences.voted is None else _mixed_losses
        pointwise, gap, parts = losses(output.score_logits.log_softmax(-1), mu, sequences, options, scale)
        policy, more = _policy_loss(output, sequences, options)
        policy = options.policy_weight * policy
        parts = {"policy_loss": policy, **parts, **more}
        return gdso_loss(policy, pointwise, gap, options.alpha_pt, options.alpha_pw), parts


def _scored_losses(
    log_probs: Tensor, mu: Tensor, sequences: Sequences, options: RolloutRecipe, scale: ScoreScale, chosen=slice(None)
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(8), (11) in its separable form, and what is logged of them, over the `chosen` of these sequences."""
    given = (sequences.target, sequences.partner_mu, sequences.score, sequences.partner_score)
    assert all(value is not None for value in given), "asked for pairs with scores only"
    target, partner_mu, score, partner_score = (cast(Tensor, value)[chosen] for value in given)
    pointwise = pointwise_cross_entropy(log_probs[chosen], target)
    sides = (mu[chosen][:, None], partner_mu, score, partner_score)
    if options.preference_loss == "bradley_terry":
        gap = bradley_terry_terms_detached(*sides).mean()
    else:
        gap = score_gap_terms_detached(*sides, scale).mean()
    return pointwise, gap, {"pointwise_loss": pointwise, "gap_loss": gap / 2}


def _mixed_losses(
    log_probs: Tensor, mu: Tensor, sequences: Sequences, options: RolloutRecipe, scale: ScoreScale
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The same where some sequences have votes only. Every sequence counts alike, those with votes by their weight."""
    voted = sequences.voted
    assert voted is not None and sequences.partner_mu is not None, "asked for such sequences only"
    pointwise = gap = log_probs.new_zeros(())
    parts: dict[str, Tensor] = {}
    scored = ~voted.is_M
    if scored.any():
        pointwise, gap, parts = _scored_losses(log_probs, mu, sequences, options, scale, scored)
        part = int(scored.sum()) / len(scored)
        pointwise, gap = pointwise * part, gap * part
    if voted.is_M.any():
        terms = voted.terms(log_probs, mu, sequences.partner_mu, options)
        parts["preference_loss"] = terms.mean() / 2
        gap = gap + voted.weight * terms.sum() / len(scored)
    return pointwise, gap, parts


class Opd(Objective):
    """On-policy distillation: the teacher's log-ratio is every sampled token's advantage; nothing else is rewarded."""

    def samples_label(self, options):
        return True

    def __call__(self, output, mu, sequences, options, scale):
        log_probs, mask = sampled_tokens(output, sequences.inputs, sequences.labels, options.temperature)
        weights, parts = _correction(log_probs, mask, sequences, options)
        loss = opd_loss(log_probs, sequences.teacher_log_probs, mask, sequences.old_log_probs, weights)
        gap = mean_over_tokens(log_probs - sequences.teacher_log_probs, mask)
        return loss, {"policy_loss": loss, "reverse_kl": gap.mean(), **parts}


OBJECTIVES: dict[str, Objective] = {"grpo": Grpo(), "gdso": Gdso(), "opd": Opd()}


def sampled_log_probs(output: BackboneOutput, labels: Tensor | None, temperature: float) -> Tensor:
    """Log-probabilities (M, T) of the tokens that the policy sampled; with a last column for `labels`."""
    log_probs = output.trace_log_probs
    assert log_probs is not None, "roll-outs have traces"
    if labels is None:
        return log_probs
    label = (output.score_logits / temperature).log_softmax(-1).gather(1, labels[:, None])
    return torch.cat([log_probs, label], 1)


def sampled_tokens(
    output: BackboneOutput, inputs: ModelInput, labels: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """`sampled_log_probs` (M, T), and their mask."""
    assert inputs.trace_mask is not None, "roll-outs have traces"
    mask = inputs.trace_mask.bool()
    if labels is not None:
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return sampled_log_probs(output, labels, temperature), mask


def _policy_loss(
    output: BackboneOutput, sequences: Sequences, options: RolloutRecipe
) -> tuple[Tensor, dict[str, Tensor]]:
    log_probs, mask = sampled_tokens(output, sequences.inputs, sequences.labels, options.temperature)
    advantages = sequences.advantages
    assert advantages is not None, "given for every method that uses them"
    weights, parts = _correction(log_probs, mask, sequences, options)
    loss = grpo_loss(
        log_probs,
        advantages,
        mask,
        sequences.old_log_probs,
        sequences.ref_log_probs,
        options.beta,
        options.clip,
        weights,
    )
    return loss, parts


def _correction(
    log_probs: Tensor, mask: Tensor, sequences: Sequences, options: RolloutRecipe
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Importance weights (M, T) where an engine sampled the traces, and how far its log-probabilities are from the policy's.

    A label that the policy wrote (a last column) was sampled here, from the policy itself.
    """
    sampler = sequences.sampler_log_probs
    if sampler is None:
        return None, {}
    policy = (log_probs if sequences.old_log_probs is None else sequences.old_log_probs).detach()
    sampler = torch.cat([sampler, policy[:, sampler.shape[1] :]], 1)
    weights = importance_weights(policy, sampler, mask, options.importance_cap)
    differences = (policy - sampler).abs()[mask]
    return weights, {"sampler_difference": differences.mean(), "sampler_difference_max": differences.max()}


@torch.no_grad()
def divergences(output: BackboneOutput, sequences: Sequences, options: RolloutRecipe) -> dict[str, Tensor]:
    """KL of the present policy per sampled token, by the estimator r - 1 - log r, which is never negative.

    `reference_kl`: to the starting model; `policy_kl`: to the policy that sampled a reused roll-out. r is the other policy's
    probability over the present one's.
    """
    known = {"reference_kl": sequences.ref_log_probs, "policy_kl": sequences.old_log_probs}
    if all(other is None for other in known.values()):
        return {}
    log_probs, mask = sampled_tokens(output, sequences.inputs, sequences.labels, options.temperature)
    found = {}
    for name, other in known.items():
        if other is not None:
            difference = other - log_probs
            found[name] = mean_over_tokens(difference.exp() - 1 - difference, mask).mean()
    return found
