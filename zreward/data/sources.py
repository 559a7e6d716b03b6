"""Rows of a JSONL file, a Parquet file or a Hugging Face data set, one after the other, before they are checked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zreward.common.errors import InputError
from zreward.common.text_files import check_encoding
from zreward.data.record import check_key

_BATCH = 256  # Parquet rows in memory at a time


@dataclass(frozen=True)
class Layout:
    """What a row may hold."""

    check_key: Callable[[Any], None]  # InputError for a key that no row has
    packed: tuple[str, ...]  # columns that may be JSON text
    image: str  # the column of pictures: one, or a list of them


RECORDS = Layout(check_key, ("scores", "stds"), "image")


class SourceRow(NamedTuple):
    """`data` is the row as a mapping, or None when `error` says why it could not be read."""

    number: int
    place: str
    raw: str | Mapping[str, Any]
    data: Mapping[str, Any] | None
    error: str = ""

    @property
    def text(self) -> str:
        """The row as it came; of a row with columns, its JSON, where only the size of bytes is told."""
        return self.raw if isinstance(self.raw, str) else json.dumps(self.raw, ensure_ascii=False, default=_brief)


def read_rows(source: Any, layout: Layout = RECORDS) -> Iterator[SourceRow]:
    """Rows of a .jsonl or .parquet file (by its name) or of a `datasets.Dataset` / `IterableDataset`."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected records as .jsonl or .parquet")
        suffix = path.suffix.lower()
        if suffix not in (".jsonl", ".ndjson", ".parquet"):
            raise InputError(f"{path}: unknown file type {path.suffix!r}; expected .jsonl or .parquet")
        try:
            expected = f"an object with prompt and {layout.image}"
            yield from _parquet(path, layout) if suffix == ".parquet" else json_lines(path, expected)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    else:
        yield from _dataset(source, layout)


def json_lines(path: Path, expected: str) -> Iterator[SourceRow]:
    """Lines count from 1; blank ones are passed over. `expected` says what a line is."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                check_encoding(line, f"{path}:1")
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            text = line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
            try:
                data, error = parse_json(line.decode("utf-8")), ""
                if not isinstance(data, dict):
                    data, error = None, f"a {type(data).__name__}, expected {expected}"
            except UnicodeDecodeError:
                data, error = None, "not UTF-8 text"
            except InputError as problem:
                data, error = None, str(problem)
            yield SourceRow(number, f"{path}:{number}", text, data, error)


def _parquet(path: Path, layout: Layout) -> Iterator[SourceRow]:
    """Rows count from 0, as in pandas and datasets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, str(path), layout)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    yield _unpacked(number, f"{path}:row {number}", row, layout)
                    number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None


def _dataset(dataset: Any, layout: Layout) -> Iterator[SourceRow]:
    datasets = sys.modules.get("datasets")  # whoever has a data set has imported it
    if datasets is None or not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        advice = f"; choose one of its splits {list(dataset)}" if isinstance(dataset, Mapping) else ""
        raise InputError(f"records from a {type(dataset).__name__}: expected a path or a datasets.Dataset{advice}")
    features = dataset.features or {}
    _check_columns(features, "data set", layout)
    feature, undecoded = features.get(layout.image), datasets.Image(decode=False)
    listed = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
    # Decoding is ours: theirs would end the loop at the first truncated image.
    if isinstance(feature, datasets.Image):
        dataset = dataset.cast_column(layout.image, undecoded)
    elif isinstance(listed, datasets.Image):
        dataset = dataset.cast_column(layout.image, datasets.List(undecoded))
    for number, row in enumerate(dataset):
        yield _unpacked(number, f"data set:row {number}", row, layout)


def _check_columns(names: Any, what: str, layout: Layout) -> None:
    """A wrong column is said once, not once for every row."""
    try:
        for name in names:
            layout.check_key(name)
    except InputError as error:
        raise InputError(f"{what}: column: {error}") from None


def _unpacked(number: int, place: str, row: Mapping[str, Any], layout: Layout) -> SourceRow:
    """Columns as a record's fields: scores as JSON text are unpacked."""
    data = dict(row)
    try:
        for key in layout.packed:
            if isinstance(data.get(key), str):
                data[key] = parse_json(data[key], f"{key}: ")
            elif isinstance(data.get(key), Mapping):
                # One type for all rows gives each of them every dimension and every rater: null where there is none.
                data[key] = {name: _without_empty(value) for name, value in data[key].items()}
    except InputError as error:
        return SourceRow(number, place, row, None, str(error))
    return SourceRow(number, place, row, data)


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = {rater: rating for rater, rating in value.items() if rating is not None}
    return None if value in ([], {}) else value


def parse_json(text: str, what: str = "", strict: bool = True) -> Any:
    """JSON: InputError also for a key that stands twice in an object and, if `strict`, for NaN and Infinity."""
    try:
        if text.startswith("\ufeff"):
            return json.loads(text)  # says what is wrong
        return (_STRICT if strict else _LENIENT).decode(text)
    except InputError as error:
        raise InputError(f"{what}{error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{what}not valid JSON: {error.msg} at column {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets nested as deep
        raise InputError(f"{what}not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InputError(f"key {key!r} stands twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} is not JSON; expected a finite number, or null for a rating that is absent")


def _brief(value: Any) -> str:
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else f"<{type(value).__name__}>"


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
_LENIENT = json.JSONDecoder(object_pairs_hook=_object)
