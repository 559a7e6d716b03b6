"""AIGIQA-20K (arXiv 2404.03407; NTIRE 2024, image track): one mean opinion score of quality and match together.

Sources of the layout: loaders of two public users of the files, github.com/pf0607/IPCE, train_aigcqa30k.py and utils.py
(info_SPLIT.csv with name, prompt and score in this order, pictures in SPLIT/, scores on 0 to 5), and
github.com/strawhatboy/M3-AGIQA, dataset.py, models/utils.py and cfg/minicpm-xlstm-aigciqa-30k.yaml (columns `name`, `prompt`
and `mos` on 0 to 5; info_train, info_val, info_test; pictures in images/). The publisher's own pages could not be read, nor
any of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rubrics import Published
from zreward.data.importers.table import table_rows
from zreward.data.importers.values import number_in_text, plain_name
from zreward.data.record import Record

SPLITS = {"train": "train", "val": "dev", "test": "test"}  # in the names of files -> ours
DIMENSIONS = {
    "overall": Published(
        *(0, 5, "How good is the image for this prompt: both the picture itself and its match with the prompt?"),
        *("Useless: broken, or nothing of the prompt.", "Excellent: flawless, and all of the prompt."),
    )
}


def _read(reading: Reading) -> Iterator[Record]:
    for file in reading.files("info_*.csv"):
        part = file.stem.removeprefix("info_")
        folders = [name for name in (part, "images") if (reading.images / name).is_dir()]
        convert = partial(_record, reading, SPLITS.get(part), folders[0] if folders else "")
        yield from reading.each(table_rows(file, ("name", "prompt", "mos")), convert)


def _record(reading: Reading, split: str | None, folder: str, row: Mapping[str, Any]) -> Record:
    name = plain_name(row["name"], "name")
    scores = {"overall": number_in_text(row["mos"], "mos", 0, 5)}
    tags = (f"generator:{name.split('_')[0]}",) if "_" in name else ()
    image = reading.picture(name, "name", folder)
    return Record(row["prompt"], image, scores, split=split, tags=tags, id=Path(name).stem)


DESCRIPTION = Importer(
    name="aigiqa20k",
    title="AIGIQA-20K",
    source="ModelScope lcysyzxdxc/AIGCQA-30K-Image",
    licence="Apache-2.0 (ModelScope's record)",
    layout="info_train.csv, info_val.csv, info_test.csv; pictures in train/, val/, test/, in images/ or in ROOT itself",
    holds="20,000 pictures of 15 generators, 21 raters: one mean opinion score each; train, val, test",
    targets="records: overall, from 0-5",
    missing="single ratings, their spread; quality and alignment apart",
    checked="loaders of two public users; not checked against a file",
    makes=Record,
    read=_read,
    dimensions=DIMENSIONS,
)
