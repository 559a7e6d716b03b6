"""Pairs with votes among a batch of GDSO's roll-outs (`objectives.preferred_rollouts`).

Shapes: B items, J sides (a first), G traces per side, M = B * J * G sequences in that order, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zreward.objectives import bradley_terry_votes_terms_detached, win_rate_reward, win_terms_detached
from zreward.training.recipe import RolloutRecipe
from zreward.training.rollout_data import RolloutItem


@dataclass(frozen=True)
class Voted:
    """Which items of a batch have votes instead of scores, and the votes."""

    is_B: Tensor  # (B,) bool
    share_BJ: Tensor  # of the votes, those for each side; 0 where there are scores

    @classmethod
    def among(cls, items: Sequence[RolloutItem], device: torch.device) -> Voted | None:
        """None where every item has scores."""
        if not any(item.shares for item in items):
            return None
        is_B = torch.tensor([bool(item.shares) for item in items], device=device)
        return cls(is_B, torch.tensor([item.shares or (0.0, 0.0) for item in items], device=device))

    def rewards(self, probs_BJGS: Tensor) -> Tensor:
        """In place of (7) and (10), unweighted, of the items with votes alone: (B', J, G)."""
        probs = probs_BJGS[self.is_B]
        return win_rate_reward(probs, probs.flip(1), self.share_BJ[self.is_B].to(probs))

    def sequences(self, log_probs_BJGS: Tensor, weight: float) -> VotedSequences:
        """The same of every sequence, with its partners' distributions."""
        _, J, G, _ = log_probs_BJGS.shape
        share = self.share_BJ.to(log_probs_BJGS).flatten().repeat_interleave(G)
        partners = log_probs_BJGS.flip(1).flatten(0, 1).repeat_interleave(G, 0)
        return VotedSequences(self.is_B.repeat_interleave(J * G), share, partners, weight)


@dataclass(frozen=True)
class VotedSequences:
    """Which of M sequences are of pairs with votes, and what these are compared with."""

    is_M: Tensor  # (M,) bool
    share: Tensor  # (M,): of the votes, those for the sequence's side
    partner_log_probs: Tensor  # (M, G, S): the other side's distributions, under the present weights
    weight: float  # of a pair with votes; that of one with scores is 1

    def rows(self, chosen: slice) -> VotedSequences:
        return VotedSequences(self.is_M[chosen], self.share[chosen], self.partner_log_probs[chosen], self.weight)

    def terms(self, log_probs_MS: Tensor, mu_M: Tensor, partner_mu_MG: Tensor, options: RolloutRecipe) -> Tensor:
        """l[j,i] of the sequences with votes alone, unweighted."""
        share = self.share[self.is_M]
        if options.preference_loss == "bradley_terry":
            return bradley_terry_votes_terms_detached(mu_M[self.is_M], partner_mu_MG[self.is_M], share)
        return win_terms_detached(log_probs_MS[self.is_M], self.partner_log_probs[self.is_M], share)
