"""What training does not do with records of several pictures, or of none: refused before the first step."""

from __future__ import annotations

from collections.abc import Sequence

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.record_table import kinds_of
from zreward.training.recipe import Recipe


def check_sequences(recipe: Recipe, compares: bool, records: Sequence[Record], processes: int) -> None:
    """InputError for records that this recipe cannot be trained on.

    Args:
        recipe: its options.
        compares: the method shows every picture beside a reference.
        records: to train on.
        processes: of the launch; with several, each step needs a gradient for every weight, the vision tower's too.
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
        if processes > 1 and not record.pictures:
            raise InputError(
                f"record {record.name} shows no picture; several processes are not supported for such records: start one"
            )
