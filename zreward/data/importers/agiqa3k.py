"""AGIQA-3K (arXiv 2306.04717) in its official layout: ROOT/data.csv and the images in ROOT/images/ or ROOT.

Two dimensions, quality and alignment: the rubric `agiqa3k_rubric()`. The published mean opinion scores are z-normalised
on a scale of 0 to 5 (observed: about 0 to 4.5), not a 1-5 rubric. They are mapped affinely, with fixed constants,

    score = 1 + 4 mos / 5,   standard deviation = 4 std / 5,

so that every part of the data set gets the same map; a MOS outside 0..5 is refused, never clipped. Correlations and
preference accuracy do not depend on the map; gaps do: margin HPA's 0.5 is 0.625 of their units. Only means and
deviations were published, so `Record.target` makes SYNTHETIC distributions of them.

Tags: generator:NAME and setting:NAME from the file name (sd1.5_lowcorr_003.jpg), style:NAME and one adj:NAME for each
adjective in the prompt.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.text_files import read_text
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.importers.importer import Importer
from zreward.data.record import Record
from zreward.data.splits import split_by_prompt
from zreward.data.writing import save_records
from zreward.rubric import Rubric

MOS_MAX = 5.0
SLOPE = 4.0 / MOS_MAX  # rubric scores per MOS unit; MOS 0 is score 1
COLUMNS = ("name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align")
DIMENSIONS = {"quality": "quality", "align": "alignment"}  # column suffix -> dimension
FRACTIONS = {"train": 0.7, "dev": 0.1, "test": 0.2}
DESCRIPTION = Importer(
    name="agiqa3k",
    title="AGIQA-3K",
    source="github.com/lcysyzxdxc/AGIQA-3k-Database",
    licence="MIT",
    layout="data.csv and the images, in images/ or in ROOT itself",
    holds="2,982 pictures of six generators: z-normalised mean opinion scores and deviations",
    targets="records: quality, alignment, mapped linearly from 0-5 to 1-5; split by prompt",
    missing="single ratings (target distributions are made of mean and deviation)",
    checked="the published data.csv, 2,014 rows of it read",
    makes=Record,
    read=None,
)
RUBRIC_FILE = Path(__file__).resolve().parents[2] / "rubrics" / "agiqa3k.yaml"


def agiqa3k_rubric() -> Rubric:
    """Quality and alignment on nine half-point bins; the anchors are ours, AGIQA-3K's raters did not see them."""
    return Rubric.from_yaml(RUBRIC_FILE)


def import_agiqa3k(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    fractions: Mapping[str, float] | None = FRACTIONS,
    seed: int = 0,
    skip_bad: bool = False,
    check_images: bool | None = True,
    progress: bool = False,
) -> Path:
    """Convert AGIQA-3K to records.

    Images are not copied: their paths are relative to `out` if they are below it, else absolute.

    Args:
        root: folder in AGIQA-3K's official layout: data.csv and images.
        out: a .jsonl or .parquet file, or a folder for records.jsonl.
        fractions: shares of the splits (`split_by_prompt`); None: no splits.
        seed: of the splits.
        skip_bad: write bad rows to RECORDS.skipped.jsonl instead of stopping.
        check_images: decode every image, which finds truncated ones; False: only check that it exists; None: not even that.
        progress: show a progress bar.

    Returns:
        The path of the records.

    Raises:
        InputError: another layout; bad rows, missing or truncated images.
    """
    root, out = Path(root), Path(out)
    path = out if out.suffix.lower() in (".jsonl", ".parquet") else out / "records.jsonl"
    table = root / "data.csv"
    if not table.is_file():
        raise InputError(f"{root}: no data.csv; expected AGIQA-3K's official layout (data.csv and images)")
    bad = BadLines(str(table), skip_bad, f"{path}.skipped.jsonl")
    version = agiqa3k_rubric().version
    records: dict[str, Record] = {}  # by image path
    file = io.StringIO(read_text(table, "AGIQA-3K's data.csv"))
    for line, row in tqdm(_rows(file, table), f"reading {table.name}", unit=" images", disable=not progress):
        try:
            record = _record(row, root, version)
            if record.image in records:
                raise InputError(f"name {row['name']!r} occurs in an earlier row")
            record.check_image(decode=check_images)
            records[str(record.image)] = record
        except InputError as error:
            cells = ",".join(str(cell) for cell in row.values() if cell is not None)
            bad.add(BadLine(line, f"{table}:{line}", str(error), cells))
    bad.finish(len(records))
    done = list(records.values())
    if fractions is not None:
        home = {r.image: name for name, part in split_by_prompt(done, fractions, seed).items() for r in part}
        done = [replace(record, split=home[record.image]) for record in done]
    return save_records(done, path)


def _rows(file: Iterable[str], table: Path) -> Iterator[tuple[int, dict[Any, Any]]]:
    """(line, row) of the table; InputError for one that is not AGIQA-3K's."""
    reader = csv.DictReader(file)
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{table}: columns {missing} are missing; expected {','.join(COLUMNS)}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{table}: not a CSV table: {error}") from None


def _record(row: Mapping[Any, Any], root: Path, version: str) -> Record:
    cells = row.get(None)  # where DictReader puts cells that have no column
    absent = [name for name in COLUMNS if row[name] is None]
    if cells or absent:
        raise InputError(f"{'more' if cells else 'fewer'} cells than columns; quote a prompt that holds a comma")
    name = row["name"]
    if not name or name != os.path.basename(name) or name in (".", ".."):
        raise InputError(f"name is {name!r}, expected the plain name of an image file")
    image = root / name if (root / name).is_file() else root / "images" / name
    scores = {d: 1 + SLOPE * _number(row, f"mos_{suffix}", MOS_MAX) for suffix, d in DIMENSIONS.items()}
    stds = {d: SLOPE * _number(row, f"std_{suffix}", math.inf) for suffix, d in DIMENSIONS.items()}
    generator, *setting = Path(name).stem.split("_")
    tags = [f"generator:{generator}", *(f"setting:{word}" for word in setting[:-1])]
    tags += [f"style:{row['style'].removesuffix(' style')}"] if row["style"] else []
    tags += [f"adj:{row[key]}" for key in ("adj1", "adj2") if row[key]]
    return Record(
        prompt=row["prompt"],
        image=str(image),
        scores=scores,
        rubric_version=version,
        tags=tuple(tags),
        id=Path(name).stem,
        stds=stds,
    )


def _number(row: Mapping[str, Any], key: str, top: float) -> float:
    try:
        value = float(row[key])
    except ValueError:
        raise InputError(f"{key} is {row[key]!r}, expected a number") from None
    if not (math.isfinite(value) and 0 <= value <= top):
        limit = f"from 0 to {top:g}" if math.isfinite(top) else "of 0 or more"
        raise InputError(f"{key} is {value:g}, expected a number {limit}")
    return value
