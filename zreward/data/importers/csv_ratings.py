"""Ratings in a CSV file, as spreadsheets and rating tools hand them out, turned into records.

Two forms. Wide: a column for every dimension, a cell holding one rating or several ("4", "4 4.5 3", "[4, 4.5, 3]").
Long: a column for the dimension and one for the score. In both, rows of one prompt and image become one record, and a column
may name the rater. Columns are named by `Columns`, or guessed from the header.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLines
from zreward.data.importers.table import INDEX, Table, column_called, read_table, use_rows
from zreward.data.record import Record
from zreward.data.writing import save_records
from zreward.rubric import Dimension, Rubric

GUESSES = {
    "prompt": ("prompt", "text", "caption", "description"),
    "image": ("image", "image_path", "picture", "img", "file_name", "filename", "file", "path", "name"),
    "rater": ("rater", "rater_id", "annotator", "annotator_id", "worker", "worker_id", "user", "user_id"),
    "dimension": ("dimension", "aspect", "criterion"),
    "score": ("score", "rating", "value"),
    "split": ("split",),
    "group": ("group",),
    "id": ("id",),
}
"""Role -> names of columns that play it, the first that is there."""
_NO_DIMENSION = (
    *("seed", "width", "height", "index", "row", "number", "n", "seconds", "time", "timestamp", "date"),
    *(INDEX, "unnamed: 0", "level_0"),  # what pandas calls a table's row numbers
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NO_RATING = ("", "-", "na", "n/a", "nan", "none", "null")


@dataclass(frozen=True)
class Columns:
    """Names of columns where they are not guessed. `dimensions`: NAME, or NAME=COLUMN where the column is called otherwise."""

    prompt: str | None = None
    image: str | None = None
    rater: str | None = None
    dimension: str | None = None
    score: str | None = None
    dimensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What came of a table: where the records are, and a sentence about how the columns were read."""

    path: Path
    records: int
    ratings: int
    reading: str

    def __str__(self) -> str:
        return f"{self.reading}\nrecords: {self.path} ({self.records:,} records, {self.ratings:,} ratings)"


def import_csv(
    file: Path,
    out: Path,
    columns: Columns = Columns(),
    images: Path | None = None,
    rubric: Rubric | None = None,
    skip_bad: bool = False,
) -> Imported:
    """Convert a table of ratings to records. Images are opened once each, and not copied.

    Args:
        file: a CSV file; commas, semicolons or tabs.
        out: a .jsonl or .parquet file, or a folder for records.jsonl.
        columns: names of columns; default guessed from the header.
        images: folder that image paths are relative to; default that of `file`.
        rubric: names the dimensions to import; ratings off its scale are refused.
        skip_bad: write bad rows to RECORDS.skipped.jsonl instead of stopping.

    Returns:
        What was imported, and how the columns were read; its `str` is the command's output.

    Raises:
        InputError: FILE:LINE and reason for up to 20 bad rows.
    """
    path = out if out.suffix.lower() in (".jsonl", ".parquet") else out / "records.jsonl"
    table = read_table(file)
    layout = _layout(table, columns, rubric)
    bad = BadLines(str(file), skip_bad, f"{path}.skipped.jsonl")
    found: dict[tuple[str, str], _Item] = {}
    use_rows(table, bad, lambda cells, line: _add(found, cells, line, layout, table, images or file.parent, rubric))
    bad.finish(len(found))
    records = [item.record() for item in found.values()]
    ratings = sum(len(record.ratings(name)) for record in records for name in record.scores)
    if not ratings:
        raise InputError(f"{file}: no rating in it; {layout.reading}. Name the columns with options")
    return Imported(save_records(records, path), len(records), ratings, layout.reading)


@dataclass(frozen=True)
class _Layout:
    """Which column plays which role, and the column of every dimension of the wide form."""

    roles: dict[str, str]
    dimensions: dict[str, str]
    ignored: tuple[str, ...]

    @property
    def long(self) -> bool:
        return "dimension" in self.roles

    @property
    def reading(self) -> str:
        parts = [f"{role} from {column!r}" for role, column in self.roles.items()]
        parts += [f"{name} from {column!r}" for name, column in self.dimensions.items()]
        left = f"; not used: {', '.join(map(repr, self.ignored))}" if self.ignored else ""
        return f"columns: {', '.join(parts)}{left}"


def _layout(table: Table, columns: Columns, rubric: Rubric | None) -> _Layout:
    roles: dict[str, str] = {}
    for role, names in GUESSES.items():
        named = getattr(columns, role, None)
        if named is not None and named not in table.header:
            raise InputError(f"{table.path}: no column {named!r}; the header is {', '.join(table.header)}")
        column = named or next((column_called(table, name) for name in names if column_called(table, name)), None)
        if column is not None and column not in roles.values():
            roles[role] = column
    if columns.dimensions or "dimension" not in roles or "score" not in roles:
        if columns.dimension or columns.score:
            raise InputError(f"{table.path}: a dimension column and a score column go together, without dimensions")
        roles = {role: column for role, column in roles.items() if role not in ("dimension", "score")}
    missing = [role for role in ("prompt", "image") if role not in roles]
    if missing:
        raise InputError(
            f"{table.path}: no column for the {' and the '.join(missing)}; the header is {', '.join(table.header)}. "
            f"Name it with --{missing[0]} COLUMN"
        )
    free = [column for column in table.header if column not in roles.values()]
    wide = {} if "dimension" in roles else _dimension_columns(table, free, columns, rubric)
    return _Layout(roles, wide, tuple(column for column in free if column not in wide.values()))


def _dimension_columns(table: Table, free: Sequence[str], columns: Columns, rubric: Rubric | None) -> dict[str, str]:
    """Dimension -> column: those that were named, those of the rubric, or all that hold ratings and nothing else."""
    if columns.dimensions:
        pairs = [(name.strip(), column.strip() or name.strip()) for name, _, column in
                 (text.partition("=") for text in columns.dimensions)]  # fmt: skip
        found = {name: column if column in table.header else column_called(table, column) for name, column in pairs}
    elif rubric is not None:
        found = {name: column_called(table, name.replace("-", "_").lower()) for name in rubric.dimension_names}
        found = {name: column for name, column in found.items() if column} or found
    else:
        found = {column: column for column in free if _holds_ratings(table, column)}
    absent = [name for name, column in found.items() if column is None]
    if absent or not found:
        wanted = f"no column for {', '.join(map(repr, absent))}" if absent else "no column that holds ratings"
        raise InputError(
            f"{table.path}: {wanted}; the header is {', '.join(table.header)}. Name the columns with --dimensions "
            "NAME=COLUMN, or in the long form with --dimension and --score"
        )
    for name in found:
        try:
            Dimension(name, name, name, {1: "low", 2: "high"})
        except InputError as error:
            raise InputError(f"{table.path}: {error}; rename it: --dimensions NAME={found[name]}") from None
    return {name: str(column) for name, column in found.items()}


def _holds_ratings(table: Table, column: str) -> bool:
    if column.lower() in _NO_DIMENSION:
        return False
    good = bad = 0
    for _, cells, _ in table.rows():
        try:
            good += isinstance(cells, str) or bool(_ratings(cells[column], table.separator))
        except InputError:
            bad += 1
    return (
        bool(good) and good >= bad
    )  # a few mistyped cells are reported with their lines, not left out with the column


@dataclass
class _Item:
    """The ratings of one prompt and image so far; `lines` says where each named rater gave theirs."""

    fields: dict[str, Any]
    named: dict[str, dict[str, float]] = field(default_factory=dict)
    plain: dict[str, list[float]] = field(default_factory=dict)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)

    def record(self) -> Record:
        return Record(
            **self.fields, scores=self.named | {name: values for name, values in self.plain.items() if values}
        )


def _add(
    found: dict[tuple[str, str], _Item],
    cells: dict[str, str],
    line: int,
    layout: _Layout,
    table: Table,
    folder: Path,
    rubric: Rubric | None,
) -> None:
    """Put a row's ratings where they belong. Nothing is kept of a row that is refused."""
    given = {role: cells[column] for role, column in layout.roles.items()}
    for role in ("prompt", "image", *(("dimension",) if layout.long else ())):
        if not given[role]:
            raise InputError(f"{role} is empty")
    rater = given.get("rater")
    if rater == "":
        raise InputError("rater is empty")
    cell_of = {given["dimension"]: given["score"]} if layout.long else {
        name: cells[column] for name, column in layout.dimensions.items()}  # fmt: skip
    ratings = {name: _ratings(cell, table.separator, name) for name, cell in cell_of.items()}
    fields = {key: given[key] for key in ("prompt", "split", "group", "id") if given.get(key)}
    new = Record.from_dict(
        fields | {"image": given["image"], "scores": {n: r for n, r in ratings.items() if r}}, folder
    )
    if rubric is not None:
        new.validate(rubric)
    key = (new.prompt, str(new.image))
    item = found.get(key)
    if item is None:
        new.check_image()
        item = _Item({name: getattr(new, name) for name in ("prompt", "image", "split", "group", "id")})
    different = next(
        (name for name in ("split", "group", "id") if fields.get(name) not in (None, item.fields[name])), None
    )
    if different:
        raise InputError(
            f"{different} is {fields[different]!r}, but {item.fields[different]!r} in an earlier row of this image"
        )
    _rate(item, ratings, rater, line)
    found[key] = item


def _rate(item: _Item, ratings: dict[str, list[float]], rater: str | None, line: int) -> None:
    for name, values in ratings.items():
        if rater is not None and len(values) > 1:
            raise InputError(f"{name}: {len(values)} ratings of one rater, {rater!r}; expected one")
        if rater is not None and values and (name, rater) in item.lines:
            raise InputError(f"{name}: {rater!r} rated this image in line {item.lines[name, rater]} already")
    for name, values in ratings.items():
        if rater is None:
            item.plain.setdefault(name, []).extend(values)
        elif values:
            item.named.setdefault(name, {})[rater] = values[0]
            item.lines[name, rater] = line


def _ratings(cell: str, separator: str, name: str = "score") -> list[float]:
    """The ratings of a cell, [] for none. A comma is a decimal comma where commas separate no cells."""
    text = cell.strip()
    if text.lower() in _NO_RATING:
        return []
    if text.startswith("["):
        try:
            values = json.loads(text)
        except ValueError:
            raise InputError(f"{name} is {text[:80]!r}, expected numbers, such as [4, 4.5]") from None
        return [_number(value, name) for value in values]
    if separator != ",":
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    return [_number(part, name) for part in re.split(r"[\s;|/]+", text) if part]


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool) or not _NUMBER.fullmatch(str(value)):
            raise ValueError(value)  # Python also takes 1_0 and digits of other scripts
        number = float(value)
    except (TypeError, ValueError):
        advice = "; write 4.5 for a number, [4, 5] for two ratings" if "," in str(value) else ""
        raise InputError(f"{name} is {str(value)[:80]!r}, expected a number{advice}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} is {value!r}, expected a finite number")
    return number
