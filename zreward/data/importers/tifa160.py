"""TIFA-160 (arXiv 2303.11897): 800 pictures of 160 prompts by five generators, with two people's scores from 1 to 5.

Source of the layout: github.com/Yushi-Hu/tifa, human_annotations/human_annotations_with_scores.json: an object by picture of
text_id, image_path, text, human_scores, and the scores of automatic metrics, which `zreward bench` can measure:

    zreward bench --suite tifa160=FILE --predictions mplug=FILE#tifa_mplug-large
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text
from zreward.data.fields import plain_list, plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.values import needed, whole_number
from zreward.data.record import Record
from zreward.data.sources import SourceRow, parse_json

LOWEST, HIGHEST = 1, 5


def _read(reading: Reading) -> Iterator[Record]:
    for file in reading.files("human_annotations*.json"):
        yield from reading.each(_rows(file), partial(_record, reading))


def _rows(file: Path) -> Iterator[SourceRow]:
    content = parse_json(read_text(file, "TIFA-160's human annotations"), f"{file}: ")
    if not isinstance(content, dict):
        raise InputError(f"{file}: {shown(content)}, expected an object by picture")
    for number, (name, row) in enumerate(content.items()):
        data, error = (row | {"id": name}, "") if isinstance(row, dict) else (None, f"{shown(row)}, expected an object")
        yield SourceRow(number, f"{file}: {name}", str(row), data, error)


def _record(reading: Reading, row: Mapping[str, Any]) -> Record:
    name, group, image, text, scores = needed(row, "id", "text_id", "image_path", "text", "human_scores")
    ratings = [float(whole_number(one, "human_scores", LOWEST, HIGHEST)) for one in plain_list(scores, "human_scores")]
    picture = reading.picture(image, "image_path")
    return Record(
        plain_text(text, "text"), picture, {"alignment": ratings}, group=plain_text(group, "text_id"), id=name
    )


DESCRIPTION = Importer(
    name="tifa160",
    title="TIFA-160",
    source="github.com/Yushi-Hu/tifa",
    licence="Apache-2.0",
    layout="human_annotations_with_scores.json; the pictures in the same folder, or in that of --images",
    holds="800 pictures of 160 prompts by five generators, two people's scores of each",
    targets="records: alignment, 1 to 5",
    missing="who rated",
    checked="the file itself, and its notebook",
    makes=Record,
    read=_read,
)
