"""Tables of what a model or people said: CSV, JSONL, Parquet or JSON files, with a column that is named after a `#`.

    scores.csv#score          a row per picture: `id` or `image`, and a score (of people: `zreward.bench.ratings`)
    judged.jsonl#choice       a row per pair: `id`, and a, b or tie; a number is a score of a minus a score of b

JSON is a list of objects, or an object of objects by id, as published results often are; also MMRB2's files of judgements, where
`forward` and `reverse` are answers to both orders of a pair. Of a pair there may be several rows: several judgements, which count
each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text
from zreward.data.importers.table import INDEX, read_table
from zreward.data.sources import Layout, parse_json, read_rows

KEYS = ("id", "pair_id", "guid", "idx", "key", "image", "image_path", "path", "name")
"""Columns that say which picture or pair a row is about; the first that a table has counts."""
COLUMNS = ("score", "choice", "gap", "prediction", "judgement")
_ANY = Layout(lambda key: None, (), "")


@dataclass(frozen=True)
class Table:
    """A file's rows, each with its place for messages; `key` is the column that says what a row is about, if there is one."""

    path: Path
    names: tuple[str, ...]
    key: str | None
    rows: tuple[tuple[str, Mapping[str, Any]], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> tuple[Any, ...]:
        """Its values, None where a row has none. InputError for a column that is not there."""
        if name not in self.names:
            raise InputError(f"{self.path}: no column {name!r}; there are {', '.join(self.names)}")
        return tuple(row.get(name) for _, row in self.rows)

    def keys(self) -> tuple[str, ...]:
        """What each row is about. InputError where no column says so, or a row does not."""
        if self.key is None:
            raise InputError(
                f"{self.path}: no column says what a row is about; expected {', '.join(KEYS[:2])} or image"
            )
        for place, row in self.rows:
            if row.get(self.key) is None or row[self.key] == "":
                raise InputError(f"{place}: no {self.key}")
        return tuple(_text(row[self.key]) for _, row in self.rows)


@dataclass(frozen=True)
class Said:
    """Per row of a table: what it is about, and what was said.

    `keys` is None where no column says what a row is about: such a table can answer a suite that is one too, row by row.
    """

    table: Table
    column: str
    keys: tuple[str, ...] | None
    values: tuple[Any, ...]

    @property
    def path(self) -> Path:
        return self.table.path


def split_place(place: str) -> tuple[Path, str | None]:
    """FILE#COLUMN -> both; None without a column."""
    file, _, column = place.partition("#")
    return Path(file), column or None


def read_said(path: Path, column: str | None = None) -> Said:
    """One column of a table, beside its keys.

    Args:
        path: .csv, .tsv, .jsonl, .parquet or .json.
        column: its name; default: the only one of `COLUMNS`.

    Raises:
        InputError: no such file, no such column, a row without a key where others have one.
    """
    table = read_plain(path)
    column = column or _only(table)
    return Said(table, column, None if table.key is None else table.keys(), table.column(column))


def read_plain(path: Path) -> Table:
    """All columns of a table. InputError: no such file, another kind of file, no rows."""
    rows = tuple(_rows(path))
    if not rows:
        raise InputError(f"{path}: it is empty; expected a row for each picture or pair")
    names = tuple(dict.fromkeys(name for _, row in rows for name in row))
    return Table(path, names, next((name for name in KEYS if name in names), None), rows)


def match_rows(said: Said, suite: Table, column: str) -> None:
    """Nothing where the rows of two tables without keys are about the same, as far as can be seen.

    Args:
        said: a model's answers.
        suite: people's ratings.
        column: that holds the ratings.

    Raises:
        InputError: another number of rows; the row numbers, the prompts or the ratings of a row differ.
    """
    if len(said.table) != len(suite):
        raise InputError(
            f"{said.path} has {len(said.table):,} rows, {suite.path} has {len(suite):,}. Neither has a column that says what a "
            f"row is about, so rows are matched by number, and both need the same; or give both such a column (id, image)"
        )
    for name in (INDEX, "prompt", column):
        if name != said.column and name in suite.names and name in said.table.names:
            for (place, row), (other, own) in zip(said.table.rows, suite.rows, strict=True):
                if not _same(row.get(name), own.get(name)):
                    raise InputError(
                        f"{place}: {name} is {shown(row.get(name))}, at {other} it is {shown(own.get(name))}; rows without an id "
                        "are matched by number, and these are not in the same order"
                    )


def _same(one: Any, other: Any) -> bool:
    """Whether two cells hold the same text or number: a CSV file's numbers are texts."""
    if str(one) == str(other):
        return True
    try:
        return math.isclose(float(one), float(other))
    except (TypeError, ValueError, OverflowError):
        return False


def _text(key: Any) -> str:
    """A key as text; of an embedded picture {bytes, path} its path."""
    return str(key["path"]) if isinstance(key, Mapping) and key.get("path") else str(key)


def _only(table: Table) -> str:
    found = [name for name in table.names if name in COLUMNS]
    if len(found) != 1:
        raise InputError(
            f"{table.path}: name its column of scores after a #, as in {table.path.name}#{table.names[-1]}"
        )
    return found[0]


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        for line, cells, _ in read_table(path).rows():
            if isinstance(cells, str):
                raise InputError(f"{path}:{line}: {cells}")
            yield f"{path}:{line}", cells
    elif suffix == ".json":
        yield from _json(path)
    else:
        for row in read_rows(path, _ANY):
            if row.data is None:
                raise InputError(f"{row.place}: {row.error}")
            yield row.place, row.data


def _json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = parse_json(read_text(path, "a table (.json)"), f"{path}: ", strict=False)
    if isinstance(content, Mapping):
        content = [row | {"id": name} if isinstance(row, dict) else row for name, row in content.items()]
    if not isinstance(content, list):
        raise InputError(f"{path}: {shown(content)}, expected a list of objects, or an object of objects by id")
    for number, row in enumerate(content):
        if not isinstance(row, dict):
            raise InputError(f"{path}: entry {number} is {shown(row)}, expected an object")
        for answer in _judgements(row):
            yield f"{path}: entry {number}", answer


def _judgements(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """MMRB2's first answer to each order, that to the reverse one turned round; any other row as it is."""
    if not {"forward", "reverse"} & row.keys():
        yield row
        return
    for order, sides in (("forward", {}), ("reverse", {"A": "B", "B": "A"})):
        answers = row.get(order) or []
        told = (
            answers[0].get("judgement")
            if isinstance(answers, list) and answers and isinstance(answers[0], dict)
            else None
        )
        if told:
            yield {"id": row.get("id"), "judgement": sides.get(told, told) if isinstance(told, str) else told}
