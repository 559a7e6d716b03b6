"""AGIQA-3K (arXiv 2306.04717) in its official layout: ROOT/data.csv and the images in ROOT/images/ or ROOT.

The mean opinion scores are z-normalised and rescaled, about 0 to 4.5: not a 1-5 rubric. They are mapped affinely,
score = 1 + 4 mos / 4.5, and standard deviations by the same slope; correlations and preferences do not depend on the map.
Only means and deviations were published: target distributions made from them are SYNTHETIC.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zreward.data.images import check_path
from zreward.data.record import Record
from zreward.data.splits import split_by_prompt
from zreward.data.writing import save_records
from zreward.errors import InputError

MOS_TOP = 4.5
SLOPE = 4 / MOS_TOP
COLUMNS = ("name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align")
DIMENSIONS = {"quality": "quality", "align": "alignment"}  # column suffix -> dimension
FRACTIONS = {"train": 0.7, "dev": 0.1, "test": 0.2}


def import_agiqa3k(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    skip_bad: bool = False,
) -> Path:
    """Write OUT/records.jsonl (or OUT, when it names a .jsonl or .parquet file), split by prompt; images are not copied.

    Raises InputError naming every bad row; with `skip_bad` they are left out and counted on the terminal.
    """
    root, out = Path(root), Path(out)
    table = root / "data.csv"
    if not table.is_file():
        raise InputError(f"{root}: no data.csv; expected AGIQA-3K's official layout (data.csv and images)")
    records, bad = [], []
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{table}: columns {missing} are missing; expected {list(COLUMNS)}")
        for row in reader:
            try:
                records.append(_record(row, root))
            except InputError as error:
                bad.append(f"{table}:{reader.line_num}: {error}")
    if bad and not skip_bad:
        raise InputError("\n".join([*bad[:20], *([f"... and {len(bad) - 20} more"] if len(bad) > 20 else [])]))
    if bad:
        print(f"{table}: left out {len(bad)} bad rows, the first: {bad[0]}")
    if not records:
        raise InputError(f"{table}: no usable row in it")
    home = {id(r): name for name, part in split_by_prompt(records, fractions, seed).items() for r in part}
    path = out if out.suffix in (".jsonl", ".parquet") else out / "records.jsonl"
    return save_records([replace(record, split=home[id(record)]) for record in records], path)


def _record(row: dict[str, Any], root: Path) -> Record:
    image = next((p for p in (root / "images" / row["name"], root / row["name"]) if p.is_file()), root / row["name"])
    check_path(str(image))
    scores, stds = {}, {}
    for suffix, dimension in DIMENSIONS.items():
        scores[dimension] = 1 + SLOPE * _number(row, f"mos_{suffix}", MOS_TOP)
        stds[dimension] = SLOPE * _number(row, f"std_{suffix}", math.inf)
    tags = [f"generator:{row['name'].split('_')[0]}"]
    if row["style"]:
        tags.append(f"style:{row['style']}")
    return Record(row["prompt"], str(image), scores, tags=tuple(tags), id=row["name"], stds=stds)


def _number(row: dict[str, Any], key: str, top: float) -> float:
    try:
        value = float(row[key])
    except (TypeError, ValueError):
        raise InputError(f"{key} is {row[key]!r}, expected a number") from None
    if not 0 <= value <= top:
        raise InputError(f"{key} is {value}, expected a number from 0 to {top}")
    return value
