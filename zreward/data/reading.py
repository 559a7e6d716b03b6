"""Reading records strictly: JSONL, Parquet and Hugging Face data sets.

A JSONL line, or a Parquet row, holds the fields of `Record`. In Parquet `image` is a path, bytes, or the Hugging Face struct
{bytes, path}; `scores` and `stds` are JSON text or structs. Image paths are relative to the file.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from zreward.data.files import atomic_path
from zreward.data.record import Record
from zreward.errors import InputError
from zreward.rubric import Rubric

SHOWN = 20  # bad lines named in one error

Row = tuple[str, str, Any]  # place ("file:3"), text as it came, parsed value or the InputError that it gave


def load_records(
    source: Any,
    rubric: Rubric | None = None,
    skip_bad: bool = False,
    check_images: bool = True,
    split: str | None = None,
    progress: bool = False,
) -> list[Record]:
    """All records of a .jsonl or .parquet file, or of a `datasets.Dataset`.

    Args:
        rubric: refuse dimensions it does not have and scores off its scale.
        skip_bad: leave bad lines out and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        check_images: decode every image (finds truncated files before training does).
        split: keep only records of this split.

    Raises InputError naming file, line and reason; also for empty sources and unknown splits.
    """
    name = str(source) if isinstance(source, str | os.PathLike) else "data set"
    records, bad = [], []
    for place, text, value in tqdm(_rows(source), desc=f"reading {Path(name).name}", disable=not progress):
        try:
            if isinstance(value, InputError):
                raise value
            record = Record.from_dict(value, Path(name).parent if isinstance(source, str | os.PathLike) else "")
            if rubric is not None:
                record.validate(rubric)
            if split is None or record.split == split:
                record.check_image(decode=check_images)
            records.append(record)
        except InputError as error:
            bad.append({"line": place, "reason": str(error), "text": text})
    if bad:
        _report(bad, name, skip_bad, isinstance(source, str | os.PathLike))
    if not records:
        raise InputError(f"{name}: no usable record in it; expected at least one")
    if split is None:
        return records
    kept = [record for record in records if record.split == split]
    if not kept:
        there = sorted({str(record.split) for record in records})
        raise InputError(f"{name}: no record of split {split!r}; the splits in it are {there}")
    return kept


def _report(bad: list[dict[str, str]], name: str, skip_bad: bool, is_file: bool) -> None:
    if not skip_bad:
        lines = [f"{item['line']}: {item['reason']}" for item in bad[:SHOWN]]
        more = [f"... and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        if len(bad) == 1:
            raise InputError(lines[0])
        raise InputError("\n".join([f"{name}: {len(bad)} bad lines (skip_bad leaves them out):", *lines, *more]))
    if is_file:
        with atomic_path(f"{name}.skipped.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(item) + "\n" for item in bad), encoding="utf-8")
        tqdm.write(f"{name}: skipped {len(bad)} bad lines, written to {name}.skipped.jsonl")


def _rows(source: Any) -> Iterator[Row]:
    if not isinstance(source, str | os.PathLike):
        yield from _dataset_rows(source)
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected records as .jsonl or .parquet")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        yield from _json_rows(path)
    else:
        raise InputError(f"{path}: unknown file type {path.suffix!r}; expected .jsonl or .parquet")


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            place, text = f"{path}:{number}", raw.decode("utf-8", errors="replace").rstrip("\n")
            try:
                value = json.loads(raw)
                if not isinstance(value, dict):
                    raise InputError(f"{type(value).__name__} instead of an object with prompt and image")
            except UnicodeDecodeError:
                value = InputError("not UTF-8 text")
            except json.JSONDecodeError as error:
                value = InputError(f"not JSON: {error.msg} at column {error.colno}")
            except InputError as error:
                value = error
            yield place, text, value


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=256)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                yield f"{path}:row {number}", _brief(row), _columns(row)
                number += 1
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None


def _dataset_rows(dataset: Any) -> Iterator[Row]:
    if isinstance(dataset, dict) or not hasattr(dataset, "__iter__"):
        raise InputError(f"data set is a {type(dataset).__name__}; expected a path or one split of a datasets.Dataset")
    for number, row in enumerate(dataset):
        yield f"row {number}", _brief(row), _columns(row)


def _columns(row: dict[str, Any]) -> dict[str, Any] | InputError:
    """Columns as a record's fields: struct images and JSON text unpacked, absent dimensions left out."""
    row = {key: value for key, value in row.items() if value is not None}
    image = row.get("image")
    if isinstance(image, dict):
        row["image"] = image.get("bytes") or image.get("path")
    for key in ("scores", "stds"):
        if isinstance(row.get(key), str):
            try:
                row[key] = json.loads(row[key])
            except json.JSONDecodeError as error:
                return InputError(f"{key} is not JSON: {error.msg}")
        if isinstance(row.get(key), dict):
            row[key] = {name: value for name, value in row[key].items() if value is not None}
    return row


def _brief(row: dict[str, Any]) -> str:
    """A row as text for the file of skipped lines, without image bytes."""
    return json.dumps(
        {k: v if isinstance(v, str | int | float) else str(type(v).__name__) for k, v in row.items() if k != "image"}
    )


def encoded(image: Image.Image) -> bytes:
    """A PIL image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
