"""A trainer that trains nothing."""

from __future__ import annotations

from zreward.training.trainer_base import RewardTrainer


class Idle(RewardTrainer):
    """For what a trainer does by itself."""

    def collate(self, items):
        return {"items": items}
