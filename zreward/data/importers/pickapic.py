"""Pick-a-Pic v2 (arXiv 2305.01569): pairs of pictures from a web application, one user's choice for each.

Sources of the layout: the data card of the hub's yuvalkirstain/pickapic_v2 (columns and types); github.com/yuvalkirstain/
PickScore, trainer/datasetss/clip_hf_dataset.py (labels of 1, 0, and 0.5 for a tie; rows without has_label are no choices).

Pictures are the bytes of jpg_0 and jpg_1. The splits validation_unique and test_unique hold pairs of validation and test
with one pair per prompt; delete their files to have every pair once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import parquet_rows, split_of_shard
from zreward.data.importers.values import models_of, needed
from zreward.data.preference import OVERALL, Preference

COLUMNS = ("caption", "has_label", "jpg_0", "jpg_1", "label_0", "label_1")
MORE = ("model_0", "model_1", "user_id")
VOTES = {(1.0, 0.0): "a", (0.0, 1.0): "b", (0.5, 0.5): "tie"}


def _read(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("data/*.parquet", "*.parquet"):
        convert = partial(_preference, reading, split_of_shard(file))
        yield from reading.each(parquet_rows([file], COLUMNS, MORE), convert)


def _preference(reading: Reading, split: str, row: Mapping[str, Any]) -> Preference | None:
    if not row["has_label"]:
        return None
    prompt, first, second, *labels = needed(row, "caption", "jpg_0", "jpg_1", "label_0", "label_1")
    vote = VOTES.get(tuple(labels))
    if vote is None:
        raise InputError(f"label_0 and label_1 are {shown(labels)}, expected 1 and 0, 0 and 1, or 0.5 twice")
    images = (reading.picture(first, "jpg_0"), reading.picture(second, "jpg_1"))
    user = row.get("user_id")
    votes = {OVERALL: vote if user is None else {f"user {user}": vote}}
    return Preference(prompt, images, votes, models_of(row, "model_0", "model_1"), split=split)


PICKAPIC = Importer(
    name="pickapic",
    title="Pick-a-Pic v2",
    source="hub yuvalkirstain/pickapic_v2; github.com/yuvalkirstain/PickScore",
    licence="not stated on the data card",
    layout="data/*.parquet",
    holds="1 million pairs, pictures inside; train, validation, test, validation_unique, test_unique",
    targets="preferences, overall: the user's vote, ties among them; pairs without a label are passed over",
    missing="votes of several people on a pair",
    checked="data card and training code of the publisher; not checked against a file",
    makes=Preference,
    read=_read,
    embedded=True,
)
