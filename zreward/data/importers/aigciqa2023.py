"""AIGCIQA2023 (arXiv 2307.00211): mean opinion scores of quality, authenticity and correspondence, for 2,400 pictures.

Sources of the layout: github.com/wangjiarui153/AIGCIQA2023, AIGCIQA2023.csv (an earlier commit has it) and transer.py, which
makes it from the published .mat files: pictures 0.png to 2399.png, six generators of 400, four pictures of each of 100
prompts; README.md (mosz1 quality, mosz2 authenticity, mosz3 correspondence). The pictures are allimg.zip of the hub's
IntMeGroup/AIGCIQA2023.

The scores are z-scores that were rescaled to 0 to 100. The published deviations are in other units: they are exact sample
deviations of 17 to 20 whole ratings, so they belong to the raw ratings from 1 to 5 and cannot be mapped with the scores; they
are not imported. Which of the six generators is which is in neither file: the tag is their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rubrics import Published
from zreward.data.importers.table import table_rows
from zreward.data.importers.values import number_in_text, plain_name
from zreward.data.record import Record

DIMENSIONS = {
    "quality": Published(
        *(0, 100, "How good is the picture itself: sharpness, colour, light, contrast?"),
        *("Noise or smears; nothing can be made out.", "Sharp and clean throughout."),
    ),
    "authenticity": Published(
        *(0, 100, "How much does the image look like a real one, made by no machine?"),
        *("Impossible at first glance.", "It could be a photograph, or made by a person."),
    ),
    "correspondence": Published(
        *(0, 100, "How well does the image show what the prompt asks for?"),
        *("It shows nothing of the prompt.", "It shows everything that the prompt asks for."),
    ),
}
_COLUMNS = ("name", "prompt", "style", "class", *(f"{name}_mos" for name in DIMENSIONS))
_PER_GENERATOR, _GENERATORS = 400, 6


def _read(reading: Reading) -> Iterator[Record]:
    folders = [name for name in ("allimg", "images") if (reading.images / name).is_dir()]
    for file in reading.files("AIGCIQA2023.csv"):
        yield from reading.each(table_rows(file, _COLUMNS), partial(_record, reading, folders[0] if folders else ""))


def _record(reading: Reading, folder: str, row: Mapping[str, Any]) -> Record:
    name = plain_name(row["name"], "name")
    stem = Path(name).stem
    if not stem.isdecimal() or int(stem) >= _PER_GENERATOR * _GENERATORS:
        raise InputError(f"name is {shown(name)}, expected 0.png to {_PER_GENERATOR * _GENERATORS - 1}.png")
    scores = {key: number_in_text(row[f"{key}_mos"], f"{key}_mos", 0, 100) for key in DIMENSIONS}
    words = {"generator": int(stem) // _PER_GENERATOR + 1, "style": row["style"], "class": row["class"]}
    tags = tuple(f"{key}:{word}" for key, word in words.items() if word)
    return Record(row["prompt"], reading.picture(name, "name", folder), scores, tags=tags, id=stem)


DESCRIPTION = Importer(
    name="aigciqa2023",
    title="AIGCIQA2023",
    source="github.com/wangjiarui153/AIGCIQA2023; hub IntMeGroup/AIGCIQA2023",
    licence="Apache-2.0 (the hub's card; the repository states none)",
    layout="AIGCIQA2023.csv, and the pictures in allimg/ (allimg.zip unpacked), images/ or ROOT itself",
    holds="2,400 pictures of 100 prompts by six generators: mean opinion scores, from z-scores",
    targets="records: quality, authenticity, correspondence, from 0-100",
    missing="single ratings; splits; names of the generators. Deviations are published in other units than the scores",
    checked="publisher's repository: AIGCIQA2023.csv (its first 108 rows were seen, 12 of them imported) and its script",
    makes=Record,
    read=_read,
    dimensions=DIMENSIONS,
)
