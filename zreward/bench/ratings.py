"""A table of ratings as a suite: FILE#COLUMN, a row for each picture, people's mean rating of it in COLUMN.

    mos.csv#mos       id,prompt,mos

Rows of predictions are found by the column that says what a row is about, as with any other suite (`tables.KEYS`). Where neither
table has such a column, rows are matched by their number. Pictures of one `prompt` are a group; without that column each row is a
group of its own. Models need `prompt` and `image` (or `image_path`, `path`); tables of predictions do not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from zreward.bench.suite import Suite, rated_suite
from zreward.bench.tables import Said, Table, match_rows, read_plain
from zreward.common.errors import InputError, shown
from zreward.data.images import held_image
from zreward.data.record import Record

IMAGES = ("image", "image_path", "path")
_NOWHERE = "(no picture)"


def read_ratings(name: str, path: Path, column: str, split: str | None = None, models: bool = False) -> Suite:
    """The suite of a table: its dimension is called as the column.

    Args:
        name: of the suite.
        path: .csv, .tsv, .jsonl, .parquet or .json.
        column: of the mean ratings.
        split: keep only rows with this in their column `split`.
        models: whether models are asked, which need prompts, and pictures that exist.

    Raises:
        InputError: no such file or column; a row that is about the same as another one, or whose rating is no finite number;
            with `models`, no prompts, or pictures that are not there.
    """
    table = read_plain(path)
    ratings = table.column(column)
    keys = _rows_of(table) if table.key is None else table.keys()
    image = next((one for one in IMAGES if one in table.names), None)
    if models and (image is None or "prompt" not in table.names):
        absent = [what for what, there in (("prompt", "prompt" in table.names), ("image", image)) if not there]
        raise InputError(
            f"suite {name}: {path} has no column {' and no column '.join(absent)}; a model is asked with a prompt and a picture. "
            "Add them, or measure tables of predictions only"
        )
    if split is not None:
        table.column("split")
    first: dict[str, str] = {}
    records = []
    for (place, row), key, rating in zip(table.rows, keys, ratings, strict=True):
        if first.setdefault(key, place) != place:
            raise InputError(
                f"{place}: {table.key} {shown(key)} is that of {first[key]} already; expected a row for each picture, with the "
                "mean of its ratings"
            )
        if split is not None and row.get("split") != split:
            continue
        try:
            prompt = row.get("prompt") if "prompt" in table.names else key
            picture = _picture(row.get(image or ""), path.parent)
            record = Record(prompt, picture, {column: _rating(rating, column)}, id=key)  # type: ignore[arg-type]
            if models:
                record.check_image(decode=False)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        records.append(record)
    if not records:
        there = ", ".join(sorted({str(one) for one in table.column("split")}))
        raise InputError(f"{path}: no row of split {split!r}; there are {there}")
    return replace(rated_suite(name, records), unkeyed=table if table.key is None else None)


def matched(said: Said, suite: Suite) -> Said:
    """A model's table as it answers a suite: with its own keys, or by row number where neither table has keys.

    Raises:
        InputError: only one of both says what its rows are about; as `match_rows`.
    """
    if suite.unkeyed is None:
        return said if said.keys is not None else replace(said, keys=said.table.keys())
    if said.keys is not None:
        raise InputError(
            f"{said.path} has a column {said.table.key}, {suite.unkeyed.path} has none that says what a row is about; give both "
            "such a column, or neither: then rows are matched by number"
        )
    match_rows(said, suite.unkeyed, suite.dimensions[0])
    return replace(said, keys=_rows_of(said.table))


def _rows_of(table: Table) -> tuple[str, ...]:
    return tuple(f"row {number}" for number in range(1, len(table) + 1))


def _picture(cell: Any, folder: Path) -> str | bytes:
    """Bytes, or a path from the table's folder on. Tables of predictions need neither: a URL or a number is kept as a name."""
    if cell is None or cell == "":
        return _NOWHERE
    held = held_image(cell)
    if isinstance(held, bytes):
        return held
    return str(held) if "://" in str(held) else str(folder / str(held))


def _rating(value: Any, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{column} is {shown(value)}, expected the mean rating, a finite number; leave out a row that nobody rated"
        )
    return number
