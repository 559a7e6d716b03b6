"""The direct trainer (SFT, RewardDance, RISD): one forward pass at the score position; the methods differ in their targets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, stack

from zreward.common.runs import RunDirectory
from zreward.data import Record
from zreward.data.images import ImageSource
from zreward.models.backbone import BackboneOutput
from zreward.models.inputs import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.objectives import rewarddance_loss, risd_loss, sft_loss
from zreward.training.augment import drop_words, flip_and_shift, mismatch, one_of
from zreward.training.lazy_items import Groups, LazyItems
from zreward.training.recipe import DataRecipe, Recipe
from zreward.training.trainer_base import WEIGHT, RewardTrainer

Loss = Callable[[BackboneOutput, ModelInput, Tensor, DataRecipe], Tensor]
"""(output, its input, target probabilities (N, S), options) -> ()"""


def _annotations(output, batch, target_NS, options):
    return sft_loss(output.score_logits.log_softmax(-1), target_NS)


def _distillation(output, batch, target_NS, options):
    return risd_loss(output.score_logits.log_softmax(-1), target_NS)


def _with_chain(output, batch, target_NS, options):
    chain, mask = output.trace_log_probs, batch.trace_mask
    assert chain is not None and mask is not None, "every row has a chain"
    return rewarddance_loss(output.score_logits.log_softmax(-1), target_NS, chain, mask, options.chain_weight)


LOSSES: dict[str, Loss] = {
    "sft": _annotations,
    "risd": _distillation,
    "rewarddance": _with_chain,
    "rewarddance-pairwise": _annotations,
    "preference": _annotations,  # of rated pictures; pairs have a loss of their own (preferred.py)
}


@dataclass(frozen=True)
class DirectItem:
    """One (record, dimension) with its target distribution (S,)."""

    record: Record
    dimension: str
    target: Tensor
    explanation: tuple[int, Trace] | None = None  # a post-hoc chain: the given score's bin and the reasons for it
    reference: Record | None = None  # what the picture is compared with; the target is then over no and yes


class DirectItems(LazyItems[DirectItem]):
    """Items over records that are not held."""

    @abstractmethod
    def pictures(self) -> np.ndarray:
        """(M,), 0 or more: equal for items of the same record (and reference)."""


def by_image(items: Sequence[DirectItem]) -> Sequence[list[DirectItem]]:
    """The dimensions of one record (and reference) together, so that its pictures pass the vision tower once."""
    if isinstance(items, DirectItems):
        return Groups(items, items.pictures())
    groups: dict[tuple[int, int], list[DirectItem]] = {}
    for item in items:
        groups.setdefault((id(item.record), id(item.reference)), []).append(item)
    return list(groups.values())


class DirectTrainer(RewardTrainer):
    """Trains score distributions in the direct form, against annotations (SFT) or a teacher's distributions (RISD)."""

    _mean_rows: float  # of the micro-batches of this optimizer step

    def __init__(
        self,
        reward_model: RewardModel,
        recipe: Recipe,
        run: RunDirectory,
        items: Sequence[DirectItem],
        callbacks=(),
        loss: Loss | None = None,
    ) -> None:
        self.loss = loss or LOSSES[recipe.method]
        self._opened: dict[ImageSource | int, Tensor] = {}
        dataset = by_image(items) if recipe.data.group_dimensions else Groups(items)
        super().__init__(reward_model, recipe, run, dataset, callbacks)

    def collate(self, items: list[list[DirectItem]]) -> dict[str, Any]:
        """Groups of items of one record (and reference) each -> pictures, rows and targets (N, S)."""
        images: list[Tensor] = []
        rows: list[Row] = []
        for number, group in enumerate(items):
            first, *_ = group
            shown = self._add(images, first.record)
            if first.reference is not None:
                shown = (*self._add(images, first.reference), *shown)
            prompt, answer = first.record.prompt, first.record.answer
            rows += [Row(shown, prompt, one.dimension, None, one.explanation, answer, number) for one in group]
        target = stack([item.target for group in items for item in group])
        return {"images": images, "rows": rows, "target": target, "lengths": [len(group) for group in items]}

    def first_of(self, batch: dict[str, Any], count: int) -> dict[str, Any]:
        lengths = batch["lengths"][:count]
        rows = batch["rows"][: sum(lengths)]
        last = max((image for row in rows for image in row.images), default=-1)
        images, target = batch["images"][: last + 1], batch["target"][: len(rows)]
        return {"images": images, "rows": rows, "target": target, "lengths": lengths}

    def count(self, batch: dict[str, Any]) -> int:
        """Parts of a batch that count alike: none where it only keeps other processes company."""
        return len(batch["rows"]) * bool(batch.get(WEIGHT, 1))

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Also counts rows: micro-batches have unequally many where dimensions are grouped or an epoch ends."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(map(self.count, batches)) / max(len(batches), 1), device=device)
        self._mean_rows = self.accelerator.reduce(rows, reduction="mean").item()
        return batches, items

    def compute_loss(self, model, inputs, *_, **__):
        images, rows = self._augmented(inputs["images"], inputs["rows"])
        data, target = self.recipe.data, inputs["target"]
        if data.mismatched_dimension:
            rows, target = mismatch(rows, target, data.mismatched_dimension, data.mismatched)
        batch = replace(self.reward_model.collate(images, rows), share=self.shares).to(self.args.device)
        output = model(batch)
        loss = self.loss(output, batch, target, data)
        self.refuse_nan(loss)
        return loss * (self.count(inputs) / self._mean_rows)  # every row of the step counts alike

    def _augmented(self, images: list[Tensor], rows: list[Row]) -> tuple[list[Tensor], list[Row]]:
        """Drawn here and not in `collate`, which runs ahead of the step: a resumed run would draw other numbers."""
        data = self.recipe.data
        if data.augment:
            images = [self._changed(image) for image in images]
        if data.word_dropout:
            rows = [replace(row, prompt=drop_words(row.prompt, data.word_dropout)) for row in rows]
        return images, rows

    def _changed(self, image: Tensor) -> Tensor:
        if self.reward_model.image_cache is not None:
            return one_of(image)
        return flip_and_shift(self.reward_model.prepare(image))

    def _decode(self, image: Any) -> Tensor:
        cache = self.reward_model.image_cache
        if cache is None or not self.recipe.data.augment:
            return self.reward_model.decode(image)
        return stack([cache.features(self.reward_model, image, mirrored) for mirrored in (False, True)])

    def _add(self, images: list[Tensor], record: Record) -> tuple[int, ...]:
        """Append a record's pictures; returns their numbers."""
        images += [self._open(picture) for picture in record.pictures]
        return tuple(range(len(images) - len(record.pictures), len(images)))

    def _open(self, picture: ImageSource) -> Tensor:
        if not self.recipe.data.keep_images:
            return self._decode(picture)
        key = id(picture) if isinstance(picture, Image.Image) else picture  # a record may not live on
        if key not in self._opened:
            self._opened[key] = self._decode(picture)
        return self._opened[key]
