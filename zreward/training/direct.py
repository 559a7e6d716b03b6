"""The direct trainer (SFT, RISD): one forward pass at the score position. The methods differ only in their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, stack

from zreward.data import Record
from zreward.models.reward_model import RewardModel, Row
from zreward.objectives import risd_loss, sft_loss
from zreward.training.recipe import Recipe
from zreward.training.trainer_base import RewardTrainer

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {"sft": sft_loss, "risd": risd_loss}
"""Objective by method, (log_probs (N, S), target_probs (N, S)) -> ()."""


@dataclass(frozen=True)
class DirectItem:
    """One (prompt, image, dimension) with its target distribution (S,)."""

    record: Record
    dimension: str
    target: Tensor


def annotated_items(
    records: Sequence[Record], dimensions: Sequence[str], model: RewardModel, smoothing: float
) -> list[DirectItem]:
    """SFT's items: the raters' histogram of every rated (record, dimension)."""
    items = []
    for record in records:
        for name in dimensions:
            target = record.target(name, model.rubric.scale, smoothing)
            if target is not None:
                items.append(DirectItem(record, name, target))
    return items


class DirectTrainer(RewardTrainer):
    """Trains score distributions in the direct form, against annotations (SFT) or a teacher's distributions (RISD)."""

    def __init__(
        self, reward_model: RewardModel, recipe: Recipe, run: Path, items: list[DirectItem], callbacks=()
    ) -> None:
        self.objective = LOSSES[recipe.method]
        super().__init__(reward_model, recipe, run, items, callbacks)

    def collate(self, items: list[DirectItem]) -> dict[str, Any]:
        images = [self.reward_model.open(item.record.image) for item in items]
        rows = [Row(index, item.record.prompt, item.dimension) for index, item in enumerate(items)]
        return {"inputs": self.reward_model.collate(images, rows), "target": stack([item.target for item in items])}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        log_probs_NS = model(inputs["inputs"]).score_logits.log_softmax(-1)
        loss = self.objective(log_probs_NS, inputs["target"])
        self.refuse_nan(loss)
        return (loss, log_probs_NS) if return_outputs else loss
