"""Q-Eval-100K (arXiv 2503.02357): mean opinion scores of the quality of generated pictures, and of their match with the prompt.

Sources of the layout: github.com/zzc-1998/Q-Eval, README.md (only the training part is public; 60,000 pictures, 40,000 videos),
and two public users of the files: Images_train_jsons/image_quality_train.json and image_alignment_train.json are lists
of objects with `prompt`, `gt_score`, `image_path` (below the folder of the data set) and `model`. The published files could
not be read here.

No source gives the range of `gt_score`. So the lowest score of a file becomes the lowest of the rubric, its highest the highest,
as DeQA-Score does it for its sets; a part of a file is therefore mapped otherwise than the whole. Videos are not imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zreward.common.errors import InputError, shown
from zreward.data.fields import finite_number, plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import needed
from zreward.data.record import Record
from zreward.data.sources import SourceRow

FILES = {"quality": "image_quality_train.json", "alignment": "image_alignment_train.json"}
DIMENSIONS = {
    "quality": Published(
        *(0, 1, "How good is the picture itself, whatever it was asked to show?"),
        *("Bad: broken shapes, noise or blur all over.", "Excellent: sharp, clean and convincing."),
    ),
    "alignment": Published(
        *(0, 1, "How well does the image show what the prompt asks for?"),
        *("It shows nothing of the prompt.", "It shows everything that the prompt asks for."),
    ),
}


class _Held(NamedTuple):
    """A record of the first file, to which the second may add."""

    record: Record


def _read(reading: Reading) -> Iterator[Record]:
    files = {file.name: file for file in reading.files("Images_train_jsons/image_*_train.json", "image_*_train.json")}
    unknown = sorted(set(files) - set(FILES.values()))
    if unknown:
        raise InputError(f"{files[unknown[0]]}: expected {' or '.join(FILES.values())}")
    qualities: dict[str, Record] = {}  # by image_path, until the other file has the picture too
    if file := files.get(FILES["quality"]):
        for (held,) in reading.each(_rows(file), partial(_held, reading, *_range(file))):
            qualities[str(held.id)] = held
    if file := files.get(FILES["alignment"]):
        for record in reading.each(_rows(file), partial(_aligned, reading, qualities, *_range(file))):
            first = qualities.pop(str(record.id), None)
            yield replace(record, scores={**first.scores, **record.scores}) if first else record
    yield from qualities.values()


def _rows(file: Path) -> Iterator[SourceRow]:
    """A picture that an earlier row had is a fault."""
    seen: set[int] = set()
    for row in json_rows(file):
        path = (row.data or {}).get("image_path")
        if isinstance(path, str):
            if hash(path) in seen:
                row = row._replace(data=None, error=f"image_path {shown(path)} is that of an earlier row")
            seen.add(hash(path))
        yield row


def _range(file: Path) -> tuple[float, float]:
    """The lowest and the highest score of a file; what is no number is named when its row is read."""
    low, high = math.inf, -math.inf
    for row in json_rows(file):
        value = (row.data or {}).get("gt_score")
        if isinstance(value, int | float) and math.isfinite(value):
            low, high = min(low, value), max(high, value)
    if not low < high:
        raise InputError(f"{file}: expected rows with different `gt_score`, whose lowest and highest span the scale")
    return low, high


def _held(reading: Reading, low: float, high: float, row: Mapping[str, Any]) -> _Held:
    return _Held(_record(reading, "quality", low, high, row))


def _aligned(
    reading: Reading, qualities: Mapping[str, Record], low: float, high: float, row: Mapping[str, Any]
) -> Record:
    record = _record(reading, "alignment", low, high, row)
    first = qualities.get(str(record.id))
    if first and first.prompt != record.prompt:
        raise InputError(f"prompt of {shown(record.id)} is another than in {FILES['quality']}")
    return record


def _record(reading: Reading, dimension: str, low: float, high: float, row: Mapping[str, Any]) -> Record:
    prompt, score, path = needed(row, "prompt", "gt_score", "image_path")
    scores = {dimension: (finite_number(score, "gt_score") - low) / (high - low)}
    image = reading.picture(path, "image_path")
    tags = (f"generator:{plain_text(row['model'], 'model')}",) if row.get("model") else ()
    return Record(plain_text(prompt, "prompt"), image, scores, split="train", tags=tags, id=path)


DESCRIPTION = Importer(
    name="qeval100k",
    title="Q-Eval-100K, pictures",
    source="hub AGI-Eval-Official/Q-Eval-100K; github.com/zzc-1998/Q-Eval",
    licence="CC BY-NC 4.0",
    layout="image_quality_train.json and image_alignment_train.json in Images_train_jsons/; the pictures that they name",
    holds="60,000 pictures: a mean opinion score of quality and one of the match with the prompt; the training part only",
    targets="records: quality, alignment, from the lowest to the highest score of each file",
    missing="the range of the scores; single ratings, their spread; the test part. Videos are not imported",
    checked="README of the publisher and loaders of public users; not checked against a file",
    makes=Record,
    read=_read,
    dimensions=DIMENSIONS,
)
