"""DeQA-Score's data (arXiv 2501.11561): mean and deviation of the opinions on the quality of photographs, one set per folder.

Sources of the layout: github.com/zhiyuanyou/DeQA-Score, build_soft_labels/gen_soft_label.py and config.json (SET/metas/mos.json
maps a picture's path in SET/images to `mos` and `std`, numbers or their text; SET/metas/split.json lists names of files under
`train` and `test`; the lowest mean of a file becomes 1, its highest 5, deviations with it), README.md (the folders) and the
data card of the hub's zhiyuanyou/Data-DeQA-Score. The published files could not be read here.

The range of a set is thus that of its mos.json, as the publisher has it. Photographs have no prompts. A record needs one, and
prompts of two splits must differ, so it is "photograph" and eight hexadecimal digits of the SHA-256 of the picture's path:
names and numbers would not do, those of KADID-10k tell the distortion. Twenty pictures of a split, in the order of the file,
are a group, within which pairs are formed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text
from zreward.data.fields import plain_list
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import needed, number_in_text
from zreward.data.record import Record
from zreward.data.sources import SourceRow, parse_json

DIMENSIONS = {
    "quality": Published(
        *(0, 1, "How good is the quality of this picture?"),
        *("Bad: heavy blur, noise or other damage all over.", "Excellent: sharp and clean throughout."),
    )
}
GROUP = 20


def _read(reading: Reading) -> Iterator[Record]:
    for file in reading.files("metas/mos.json"):
        folder = "images" if (reading.images / "images").is_dir() else ""
        opinions, splits = _object(file), _splits(file.parent / "split.json")
        means = [value for row in opinions.values() if (value := _mean(row)) is not None]
        if not means or min(means) == max(means):
            raise InputError(f"{file}: expected pictures with different `mos`, whose lowest and highest span the scale")
        rows = _rows(file, opinions, splits)
        yield from reading.each(rows, partial(_record, reading, folder, min(means), max(means) - min(means)))


def _object(file: Path) -> dict[str, Any]:
    found = parse_json(read_text(file, f"{file.name} of DeQA-Score"), f"{file}: ")
    if not isinstance(found, dict):
        raise InputError(f"{file}: {shown(found)}, expected an object")
    return found


def _splits(file: Path) -> dict[str, str]:
    """File name -> train or test."""
    listed = _object(file)
    return {
        str(name): split
        for split in ("train", "test")
        for name in plain_list(listed.get(split), f"{file}: {split}", "names of files")
    }


def _mean(row: Any) -> float | None:
    """For the range alone; a wrong one is named when its row is read."""
    try:
        return number_in_text(row["mos"], "mos")
    except (InputError, KeyError, TypeError):
        return None


def _rows(file: Path, opinions: Mapping[str, Any], splits: Mapping[str, str]) -> Iterator[SourceRow]:
    counts: dict[str | None, int] = {}
    for number, (path, row) in enumerate(opinions.items(), 1):
        place, text = f"{file}: {path}", json.dumps({path: row})
        if not isinstance(row, Mapping):
            yield SourceRow(number, place, text, None, f"{shown(row)}, expected an object with mos and std")
            continue
        split = splits.get(PurePosixPath(path).name)
        position = counts[split] = counts.get(split, -1) + 1
        data = {
            **row,
            "image": path,
            "split": split,
            "group": f"{file.parents[1].name} {split or 'rest'} {position // GROUP}",
        }
        yield SourceRow(number, place, text, data)


def _record(reading: Reading, folder: str, lowest: float, span: float, row: Mapping[str, Any]) -> Record:
    mos, std = needed(row, "mos", "std")
    scores = {"quality": (number_in_text(mos, "mos") - lowest) / span}
    stds = {"quality": number_in_text(std, "std", 0) / span}
    path = row["image"]
    image = reading.picture(path, "picture", folder)
    prompt = f"photograph {hashlib.sha256(path.encode()).hexdigest()[:8]}"
    return Record(prompt, image, scores, group=row["group"], split=row["split"], id=path, stds=stds)


DESCRIPTION = Importer(
    name="deqa",
    title="DeQA-Score's mos.json",
    source="hub zhiyuanyou/Data-DeQA-Score; github.com/zhiyuanyou/DeQA-Score",
    licence="Apache-2.0; the pictures have those of their own data sets (KonIQ, SPAQ, KADID and others)",
    layout="one set's folder, such as KONIQ: metas/mos.json, metas/split.json, images/",
    holds="mean and standard deviation of opinions on photographs; train and test",
    targets="records: quality with its deviation (synthetic distributions), from the lowest to the highest mean of the file",
    missing="single ratings; prompts (photographs have none: the record's is a placeholder)",
    checked="data card and scripts of the publisher; not checked against a file",
    makes=Record,
    read=_read,
    dimensions=DIMENSIONS,
)
