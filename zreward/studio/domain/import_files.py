"""Labels made elsewhere, read from a file: CSV, or Label Studio's JSON export. Nothing is known here of the project.

CSV has the columns image, prompt, rater, dimension and score (empty: the rater could not judge); others are left alone.

Of Label Studio's tasks the data fields `image` and `prompt` (or `text`) are read, and of their annotations the ratings,
numbers and single choices, whose `from_name` is the dimension. Skipped annotations, drafts and model predictions are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text
from zreward.data.importers.table import read_table
from zreward.data.sources import parse_json
from zreward.studio.domain.import_references import is_url, leads_out

COLUMNS = ("image", "prompt", "rater", "dimension", "score")
_LONGEST = 1e9  # seconds that a label may have taken
_SCORES = {"rating": "rating", "number": "number", "choices": "choices"}  # result type -> key of its value


@dataclass(frozen=True)
class ForeignLabel:
    """One rater's score, as found at `place` of a file. `image` is still as it was written there, or the encoded picture."""

    place: str
    image: str | bytes
    prompt: str
    rater: str
    dimension: str
    score: float | None
    seconds: float | None = None


def read_labels(path: Path) -> list[ForeignLabel]:
    """All labels of a .csv or .json file; InputError names the first place that cannot be read."""
    reader = {".csv": _read_csv, ".json": _read_label_studio}.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: unknown file type {path.suffix!r}; expected .csv, .json as Label Studio exports it, or "
            "records (.jsonl, .parquet)"
        )
    labels = list(reader(path))
    if not labels:
        raise InputError(f"{path}: there is no label in it")
    return labels


def _read_csv(path: Path) -> Iterator[ForeignLabel]:
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.header]
    if missing:
        raise InputError(
            f"{path}: columns {missing} are missing; expected {','.join(COLUMNS)}, separated by commas, semicolons or tabs"
        )
    for line, row, _ in table.rows():
        place = f"{path}:{line}"
        if isinstance(row, str):
            raise InputError(f"{place}: {row}")
        for name in COLUMNS[:-1]:
            if not row[name]:
                raise InputError(f"{place}: {name} is empty")
        text = row["score"] if table.separator == "," else row["score"].replace(",", ".")  # a decimal comma
        score = _number(text, place) if text else None
        yield ForeignLabel(place, row["image"], row["prompt"], row["rater"], row["dimension"], score)


def _read_label_studio(path: Path) -> Iterator[ForeignLabel]:
    # Python's JSON, which Label Studio writes, may hold NaN: a time that was not taken.
    tasks = parse_json(read_text(path, "Label Studio's JSON export"), f"{path}: ", strict=False)
    if not isinstance(tasks, list):
        raise InputError(f"{path}: a JSON {type(tasks).__name__}; expected the list of tasks that Label Studio exports")
    for number, task in enumerate(tasks):
        place = f"{path}: task {task.get('id', number) if isinstance(task, Mapping) else number}"
        data = _field(task, "data", Mapping, place)
        if "annotations" not in task:
            raise InputError(f"{place}: no annotations; export as JSON, not as JSON-MIN or CSV")
        image, prompt = data.get("image"), data.get("prompt", data.get("text"))
        for name, value in (("image", image), ("prompt", prompt)):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{place}: data.{name} is {value!r}; expected text")
        if not is_url(str(image)) and leads_out(str(image)):
            raise InputError(f"{place}: image {image!r} leads out of the folder of pictures; expected a path below it")
        for annotation in _field(task, "annotations", list, place):
            if _field(annotation, "was_cancelled", bool, place, False):
                continue
            seconds = _seconds(annotation.get("lead_time"))
            for dimension, score in _scores(_field(annotation, "result", list, place), place):
                yield ForeignLabel(place, str(image), str(prompt), _rater(annotation, place), dimension, score, seconds)


def _scores(results: Iterable[Any], place: str) -> Iterator[tuple[str, float]]:
    for result in results:
        kind = _field(result, "type", str, place)
        if kind not in _SCORES:
            continue  # remarks, regions
        value = _field(result, "value", Mapping, place).get(_SCORES[kind])
        if isinstance(value, list):
            if len(value) != 1:
                raise InputError(f"{place}: {len(value)} choices {value}; expected one score")
            value = value[0]
        yield _field(result, "from_name", str, place), _number(value, place)


def _rater(annotation: Mapping[str, Any], place: str) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    if by is None or not str(by).strip():
        raise InputError(f"{place}: an annotation without completed_by; whose is it?")
    return str(by)


def _seconds(value: Any) -> float | None:
    """None where the time was not taken, or cannot be one."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST
    return float(value) if known else None


def _number(value: Any, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{place}: score {shown(value)}; expected a number")
    return number


def _field(data: Any, key: str, kind: Any, place: str, default: Any = None) -> Any:
    value = data.get(key, default) if isinstance(data, Mapping) else default
    if not isinstance(value, kind):
        raise InputError(f"{place}: {key} is {value!r}; expected the layout of Label Studio's JSON export")
    return value
