"""Labels made elsewhere, read from a file: CSV, or Label Studio's JSON export. Nothing is known here of the project.

CSV has the columns image, prompt, rater, dimension and score (empty: the rater could not judge); others are left alone.

Of Label Studio's tasks the data fields `image` and `prompt` (or `text`) are read, and of their annotations the ratings,
numbers and single choices, whose `from_name` is the dimension. Skipped annotations, drafts and model predictions are left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from zreward.data.sources import parse_json
from zreward.errors import InputError

COLUMNS = ("image", "prompt", "rater", "dimension", "score")
_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before an uploaded file's name
_SCORES = {"rating": "rating", "number": "number", "choices": "choices"}  # result type -> key of its value


@dataclass(frozen=True)
class ForeignLabel:
    """One rater's score, as found at `place` of a file. `image` is still as it was written there."""

    place: str
    image: str
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
            f"{path}: unknown file type {path.suffix!r}; expected .csv, or .json as Label Studio exports it"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    labels = list(reader(text, path))
    if not labels:
        raise InputError(f"{path}: there is no label in it")
    return labels


def image_path(reference: str, folder: Path) -> Path:
    """Where the picture lies: a path from `folder`, or what Label Studio made of one. URLs are not fetched."""
    parts = urlsplit(reference)
    name = unquote(PurePosixPath(parts.path).name)
    if parts.path.endswith("/data/local-files/"):
        found = [folder / local for local in parse_qs(parts.query).get("d", [])]
    elif parts.scheme and len(parts.scheme) > 1 and parts.netloc:
        found = [folder / name]
    elif reference.startswith("/data/upload/"):
        found = [folder / name, folder / _UPLOAD.sub("", name, count=1)]
    else:
        found = [folder / reference]
    for path in found:
        if path.is_file():
            return path
    looked = " or ".join(str(path) for path in found) or "nowhere"
    raise InputError(f"image {reference!r} is not here (looked for {looked}); name the folder that holds the images")


def _read_csv(text: str, path: Path) -> Iterator[ForeignLabel]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{path}: columns {missing} are missing; expected {','.join(COLUMNS)}")
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row or any(row[name] is None for name in COLUMNS):
                raise InputError(f"{place}: not as many cells as columns; quote a prompt that holds a comma")
            for name in COLUMNS[:-1]:
                if not row[name].strip():
                    raise InputError(f"{place}: {name} is empty")
            score = _number(row["score"], place) if row["score"].strip() else None
            yield ForeignLabel(place, row["image"], row["prompt"], row["rater"], row["dimension"], score)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a CSV table: {error}") from None


def _read_label_studio(text: str, path: Path) -> Iterator[ForeignLabel]:
    tasks = parse_json(text, f"{path}: ")
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
        for annotation in _field(task, "annotations", list, place):
            if _field(annotation, "was_cancelled", bool, place, False):
                continue
            seconds = annotation.get("lead_time")
            seconds = float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else None
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


def _number(value: Any, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{place}: score {value!r}; expected a number") from None


def _field(data: Any, key: str, kind: Any, place: str, default: Any = None) -> Any:
    value = data.get(key, default) if isinstance(data, Mapping) else default
    if not isinstance(value, kind):
        raise InputError(f"{place}: {key} is {value!r}; expected the layout of Label Studio's JSON export")
    return value
