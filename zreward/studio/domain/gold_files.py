"""Gold items in bulk, from a table: CSV or JSON lines with a picture, a dimension and the known score.

A picture is named as in the project: a record's id, or the name of the file that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.data.importers.table import parse_table
from zreward.data.sources import parse_json
from zreward.rubric import Rubric
from zreward.studio.domain.problems import Problems
from zreward.studio.storage.schema import CandidatePicture, Gold

COLUMNS = ("picture", "dimension", "score")
ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Planned:
    """What a table did to the gold items."""

    new: int
    changed: int
    same: int

    def __str__(self) -> str:
        return f"{self.new} new gold items, {self.changed} with another score than before, {self.same} that were there"


def plan_gold(session: Session, rubric: Rubric, text: str, name: str) -> Planned:
    """Commit the gold items of a table (`name` ends in .csv or .jsonl): all of it, or nothing and InputError."""
    wanted: dict[tuple[int, str], float] = {}
    pictures: dict[str, int] = dict(session.execute(select(CandidatePicture.key, CandidatePicture.id)).tuples().all())
    problems = Problems(f"nothing was taken from {name}")
    for place, given in gold_rows(text, name):
        with problems.of(place):
            _add(wanted, given, rubric, pictures)
    problems.refuse()
    if not wanted:
        raise InputError(f"{name}: no gold item in it; expected the columns {', '.join(COLUMNS)}")
    known = {(row.candidate_id, row.dimension): row for row in session.scalars(select(Gold))}
    new = changed = 0
    for (candidate, dimension), score in wanted.items():
        row = known.get((candidate, dimension))
        if row is None:
            session.add(Gold(candidate_id=candidate, dimension=dimension, score=score))
            new += 1
        elif row.score != score:
            row.score = score
            changed += 1
    session.commit()
    return Planned(new, changed, len(wanted) - new - changed)


def _add(
    wanted: dict[tuple[int, str], float], row: Mapping[str, Any] | str, rubric: Rubric, pictures: Mapping[str, int]
) -> None:
    if isinstance(row, str):
        raise InputError(row)
    picture, dimension, score = (row.get(name) for name in COLUMNS)
    if not isinstance(picture, str) or picture not in pictures:
        raise InputError(f"there is no picture {str(picture)[:200]!r}; expected its name in the project")
    dimension = rubric.dimension(str(dimension)).name
    try:
        value = rubric.scale.validate(float(score), "gold score")  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(
            str(error) if isinstance(error, InputError) else f"score {score!r}; expected a number"
        ) from None
    if wanted.setdefault((pictures[picture], dimension), value) != value:
        raise InputError(f"{picture!r} has two gold scores on {dimension}; expected one")


def gold_rows(text: str, name: str) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """(FILE:LINE, cells by column or why there are none) of gold items, unchecked. InputError for any other file."""
    ending = name[name.rfind(".") :].lower()
    if ending not in ENDINGS:
        raise InputError(f"{name}: unknown file type; expected {' or '.join(ENDINGS)}")
    if ending == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                place = f"{name}:{number}"
                row = parse_json(line, f"{place}: ")
                if not isinstance(row, dict):
                    raise InputError(f"{place}: expected an object with {', '.join(COLUMNS)}")
                yield place, row
        return
    table = parse_table(text.replace("\r\n", "\n").replace("\r", "\n"), Path(name))
    missing = [column for column in COLUMNS if column not in table.header]
    if missing:
        raise InputError(f"{name}: columns {missing} are missing; expected {','.join(COLUMNS)}")
    for number, cells, _ in table.rows():
        if isinstance(cells, dict) and table.separator != ",":
            cells["score"] = cells["score"].replace(",", ".")  # a decimal comma
        yield f"{name}:{number}", cells
