"""HPDv3 (arXiv 2508.03789): pairs of generated and real pictures with the annotators' choices.

Sources of the layout: the data card and the list of files of the hub's MizzenAI/HPDv3 (names of files, sizes, licence);
opendilab/LightRFT, lightrft/datasets/hpdv3.py, and PlantPotatoOnMoon/HPSv3-PlusPlus, hpsv3/dataset/pairwise_dataset.py, a
copy of the publisher's trainer (fields). That test.json has the fields of train.json was not seen.

`path1` is always the preferred picture. `choice_dist` counts the choices; its order is not that of the pictures (the
publisher's trainer sorts it), so the larger count is that of `path1`. `confidence` is the publisher's estimate that the
choice is right; it becomes the tag confidence:VALUE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.fields import plain_list
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows
from zreward.data.importers.values import models_of, needed, number_within
from zreward.data.preference import OVERALL, Preference


def _read(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("train.json", "test.json"):
        yield from reading.each(json_rows(file), partial(_preference, reading, file.stem))


def _preference(reading: Reading, split: str, row: Mapping[str, Any]) -> Preference:
    (prompt, *_) = needed(row, "prompt", "path1", "path2")
    images = (reading.picture(row["path1"], "path1"), reading.picture(row["path2"], "path2"))
    confidence = row.get("confidence")
    tags = () if confidence is None else (f"confidence:{number_within(confidence, 'confidence', 0, 1):g}",)
    models = models_of(row, "model1", "model2")
    return Preference(prompt, images, {OVERALL: _votes(row.get("choice_dist"))}, models, split=split, tags=tags)


def _votes(choices: Any) -> str | dict[str, float]:
    if choices is None:
        return "a"
    counts = [number_within(count, "choice_dist", 0) for count in plain_list(choices, "choice_dist")]
    if len(counts) != 2:
        raise InputError(f"choice_dist is {shown(choices)}, expected two counts")
    return {"a": max(counts), "b": min(counts)}


HPDV3 = Importer(
    name="hpdv3",
    title="HPDv3",
    source="hub MizzenAI/HPDv3; github.com/MizzenAI/HPSv3",
    licence="MIT",
    layout="train.json, test.json and images/ (images.tar.gz.* joined and unpacked)",
    holds="1.17 million pairs of generated and real pictures; train, test",
    targets="preferences, overall: the counts of choice_dist, or one vote; a is path1, the preferred picture, in every row",
    missing="who chose; counts of some pairs",
    checked="data card and two loaders; not checked against a file",
    makes=Preference,
    read=_read,
)
