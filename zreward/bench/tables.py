"""Tables of what another model said: CSV, JSONL, Parquet or JSON files, with a column that is named after a `#`.

    scores.csv#score          a row per picture: `id` or `image`, and a score
    judged.jsonl#choice       a row per pair: `id`, and a, b or tie; a number is a score of a minus a score of b

JSON is a list of objects, or an object of objects by id, as published results often are; also MMRB2's files of judgements, where
`forward` and `reverse` are answers to both orders of a pair. Of a pair there may be several rows: several judgements, which count
each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text
from zreward.data.importers.table import read_table
from zreward.data.sources import Layout, parse_json, read_rows

KEYS = ("id", "pair_id", "guid", "idx", "key", "image", "image_path", "path", "name")
"""Columns that say which picture or pair a row is about; the first that a table has counts."""
COLUMNS = ("score", "choice", "gap", "prediction", "judgement")
_ANY = Layout(lambda key: None, (), "")


@dataclass(frozen=True)
class Said:
    """Per row of a table: what it is about, and what was said."""

    path: Path
    column: str
    keys: tuple[str, ...]
    values: tuple[Any, ...]


def read_said(path: Path, column: str | None = None) -> Said:
    """One column of a table, beside its keys.

    Args:
        path: .csv, .tsv, .jsonl, .parquet or .json.
        column: its name; default: the only one of `COLUMNS`.

    Raises:
        InputError: no such file, no key, no such column, a row without a value for it.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path}: it is empty; expected a row for each picture or pair")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    key = next((name for name in KEYS if name in names), None)
    if key is None:
        raise InputError(f"{path}: no column says what a row is about; expected {', '.join(KEYS[:2])} or image")
    column = column or _only(path, names)
    if column not in names:
        raise InputError(f"{path}: no column {column!r}; there are {', '.join(names)}")
    for place, row in rows:
        if row.get(key) is None or row[key] == "":
            raise InputError(f"{place}: no {key}")
    return Said(path, column, tuple(str(row[key]) for _, row in rows), tuple(row.get(column) for _, row in rows))


def _only(path: Path, names: list[str]) -> str:
    found = [name for name in names if name in COLUMNS]
    if len(found) != 1:
        raise InputError(f"{path}: name its column of scores after a #, as in {path.name}#{names[-1]}")
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
