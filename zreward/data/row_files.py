"""Rows of a JSONL file, of a Parquet file, and of a Hugging Face data set, one after the other."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zreward.common.bounded import check_regular
from zreward.common.errors import InputError
from zreward.common.text_files import check_encoding
from zreward.data.rows import ALIKE, SEVERAL, Fields, Layout, SourceRow, parse_json

_TOGETHER = 256  # Parquet rows in memory at a time; fewer where they are large


def json_lines(path: Path, expected: str, fields: Fields = ALIKE) -> Iterator[SourceRow]:
    """Lines count from 1; blank ones are passed over. `expected` says what a line is."""
    check_regular(path, "JSON lines")
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
                elif fields.are_named:
                    data = fields.known(data)
            except UnicodeDecodeError:
                data, error = None, "not UTF-8 text"
            except InputError as problem:
                data, error = None, str(problem)
            yield SourceRow(number, f"{path}:{number}", text, data, error)


def parquet_rows(path: Path, layout: Layout, fields: Fields = ALIKE) -> Iterator[SourceRow]:
    """Rows count from 0, as in pandas and datasets."""
    import pyarrow as pa

    from zreward.data.parquet_batches import opened, rows_of

    check_regular(path, "a Parquet file")
    try:
        with opened(path) as file:
            columns = read_columns(file.schema_arrow.names, str(path), layout, fields)
            for number, row in enumerate(rows_of(file, columns, _TOGETHER)):
                yield _unpacked(number, f"{path}:row {number}", row, layout, fields)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None


def dataset_rows(
    dataset: Any, layout: Layout, fields: Fields = ALIKE, name: str = "data set", numbers: Iterator[int] | None = None
) -> Iterator[SourceRow]:
    """Rows of a `datasets.Dataset` or `IterableDataset`; `numbers` counts them."""
    datasets = sys.modules.get("datasets")  # whoever has a data set has imported it
    if datasets is None or not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        advice = f"; choose one of its splits {list(dataset)}" if isinstance(dataset, Mapping) else ""
        raise InputError(f"records from a {type(dataset).__name__}: expected a path or a datasets.Dataset{advice}")
    features = dataset.features or {}
    columns = read_columns(features, name, layout, fields)
    if fields.are_named and features:
        dataset = dataset.select_columns(columns)
    pictures = fields.image or layout.image
    undecoded = datasets.Image(decode=False)
    for column in dict.fromkeys([pictures] if fields.are_named else [pictures, SEVERAL]):
        feature = features.get(column)
        listed = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
        # Decoding is ours: theirs would end the loop at the first truncated image.
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, undecoded)
        elif isinstance(listed, datasets.Image):
            dataset = dataset.cast_column(column, datasets.List(undecoded))
    for row, number in zip(dataset, numbers or itertools.count(), strict=False):
        yield _unpacked(number, f"{name}:row {number}", row, layout, fields)


def read_columns(names: Any, what: str, layout: Layout, fields: Fields) -> list[str]:
    """The columns that are read. A wrong one, or one that is named and missing, is said once, not once for every row."""
    if not fields.are_named:
        try:
            for name in names:
                layout.check_key(name)
        except InputError as error:
            advice = ", or name the column of the prompt with --prompt-field: then columns that no record has are passed over"
            raise InputError(f"{what}: column: {error}{advice}") from None
        return list(names)
    missing = [name for name in (fields.prompt, fields.image) if name is not None and name not in names]
    if missing and names:
        raise InputError(f"{what}: no column {missing[0]!r}; its columns are {', '.join(map(str, names))}")
    return [name for name in fields.names.values() if name in names]


def _unpacked(number: int, place: str, row: Mapping[str, Any], layout: Layout, fields: Fields) -> SourceRow:
    """Columns as a record's fields: scores as JSON text are unpacked."""
    data = fields.known(row) if fields.are_named else dict(row)
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
