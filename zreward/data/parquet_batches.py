"""Parquet rows a few at a time, and fewer of them where they hold large pictures.

Rows are counted by their mean size in the file. So more memory is taken where a few large rows stand among many small ones, and
where the file holds one picture once for many neighbouring rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_BYTES = 32 << 20  # of a batch, about: rows are counted by their mean size
_BUFFER = 1 << 20  # bytes that are read ahead of a column


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, which reads piece by piece: pyarrow's default holds whole row groups. Errors of pyarrow for what is none."""
    with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        yield file


def rows_of(file: pq.ParquetFile, columns: Sequence[str], most: int) -> Iterator[dict[str, Any]]:
    """Some columns of each row; at most `most` rows are in memory, and of large ones some 32 MiB."""
    for batch in file.iter_batches(batch_size=_together(file.metadata, columns, most), columns=list(columns)):
        yield from batch.to_pylist()


def _together(metadata: Any, columns: Sequence[str], most: int) -> int:
    """How many rows are read together, by the row group with the largest ones."""
    largest = 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = [group.column(index) for index in range(group.num_columns)]
        wanted = [part for part in parts if any(_is_of(part.path_in_schema, name) for name in columns)]
        mean = sum(part.total_uncompressed_size for part in wanted) // max(group.num_rows, 1)
        largest = max(largest, mean)
    return max(1, min(most, _BYTES // largest))


def _is_of(path: str, column: str) -> bool:
    """Whether a leaf, such as image.bytes, is a part of a column."""
    return path == column or path.startswith(f"{column}.")
