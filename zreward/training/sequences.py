"""Records of several pictures, or of none: what training does not do with them, and what several processes need for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.record_table import kinds_of
from zreward.models.reward_model import RewardModel
from zreward.training.engines import splits_weights
from zreward.training.recipe import Recipe
from zreward.training.trainer_base import RewardTrainer


def check_sequences(recipe: Recipe, compares: bool, records: Sequence[Record]) -> None:
    """InputError for records that this recipe cannot be trained on.

    Args:
        recipe: its options.
        compares: the method shows every picture beside a reference.
        records: to train on.
    """
    single = "rewarddance-pairwise" if compares else "rollout.engine vllm" if recipe.rollout.engine == "vllm" else None
    for number, kind in enumerate(kinds_of(records)):
        if kind == (1, False):  # nearly all; records of large files are made for the others only
            continue
        record = records[number]
        if single is not None:
            record.only_image(single)
        if recipe.data.augment and len(record.pictures) > 1:
            raise InputError(
                f"record {record.name} shows {len(record.pictures)} pictures; data.augment mirrors and shifts each by itself, "
                "so they would no longer match: leave it out"
            )


def encode_in_every_pass(trainer: RewardTrainer) -> None:
    """Where some records show no picture, let passes without one encode a blank picture, which nothing reads.

    Processes train together: in each step each of them needs a gradient for every weight, and a process whose weights are split
    the same layers. One process does the same with mixed records, so that its optimizer takes the same steps. InputError where
    weights are split and records are mixed: processes would run the vision tower at different places of a roll-out.

    Where no record shows a picture, one process leaves the tower out; several apply weight decay to it.
    """
    records, dev_records, teacher = trainer.read
    shows = {pictures > 0 for part in (records, dev_records) for pictures, _ in kinds_of(part)}
    several = trainer.args.world_size > 1
    if False not in shows or not (several or True in shows):
        return
    if several and True in shows and splits_weights(trainer.args):
        raise InputError(
            "some records show pictures and some do not: FSDP and ZeRO-3, which split the weights, need records that all do, "
            "or none; launch with DDP or ZeRO-2, or train on one kind"
        )
    for model in (trainer.reward_model, teacher):
        if model is not None:
            model.backbone.blank = _blank(model)


def _blank(model: RewardModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and grid of a small picture, as the model's vision tower takes them."""
    patches, grid = model.layout.patchify(model.open(Image.new("RGB", (64, 64))))
    return patches, torch.tensor([grid])
