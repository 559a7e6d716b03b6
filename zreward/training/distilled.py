"""RISD's items without holding them: their numbers lie in files that are mapped into memory, records are made when asked for.

Axes: M items (labelled pairs of record and dimension), K traces of one question, S score bins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.files import disk_errors
from zreward.data import Record
from zreward.training.direct import DirectItem, LazyItems

TRACE_PROBS, PROBS = "trace_probs", "probs"


class DistilledItems(LazyItems):
    """Every item of some tables with the teacher's distribution.

    Args:
        records: what the numbers in the column `record` mean.
        names: the dimensions that are wanted.
        one_hot: only the most likely bin of each distribution.
        tables: columns record, dimension, and the distributions of the teacher: `probs`, or `trace_probs`, the mean of whose
            traces is taken.
    """

    def __init__(self, records: Sequence[Record], names: Sequence[str], one_hot: bool, tables: Iterable[pa.Table]):
        self._records, self._names, self._one_hot = records, tuple(names), one_hot
        rows, dimensions, probs = _Spool(np.int32), _Spool(np.int16), _Spool(np.float64)
        for table in tables:
            rows.add(table["record"].to_numpy())
            dimensions.add(pc.index_in(table["dimension"], value_set=pa.array(names, pa.string())).to_numpy())
            probs.add(_numbers(table))
        self._rows_M, self._dimensions_M, self._probs = rows.whole(), dimensions.whole(), probs.whole()

    def __len__(self) -> int:
        return len(self._rows_M)

    @overload
    def __getitem__(self, key: int) -> DirectItem: ...

    @overload
    def __getitem__(self, key: slice) -> list[DirectItem]: ...

    def __getitem__(self, key: int | slice) -> DirectItem | list[DirectItem]:
        if isinstance(key, slice):
            return [self[index] for index in range(len(self))[key]]
        record = self._records[int(self._rows_M[key])]
        return DirectItem(record, self._names[self._dimensions_M[key]], self._target(key))

    def _target(self, index: int) -> Tensor:
        probs = torch.tensor(self._probs[index], dtype=torch.get_default_dtype())
        probs_S = probs.mean(0) if probs.ndim == 2 else probs
        if self._one_hot:
            probs_S = torch.nn.functional.one_hot(probs_S.argmax(), len(probs_S)).float()
        return probs_S

    def groups(self, by_image: bool) -> Sequence[list[DirectItem]]:
        """A picture's dimensions follow one another in the files of `zreward label`."""
        if not by_image:
            return _Groups(self, range(len(self)))
        return _Groups(self, np.flatnonzero(np.diff(self._rows_M, prepend=-1)))


class _Groups(Sequence[list[DirectItem]]):
    """Items that follow one another, cut before each of `starts`."""

    def __init__(self, items: DistilledItems, starts: Sequence[int] | np.ndarray) -> None:
        self._items, self._starts = items, starts

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        stop = self._starts[index + 1] if index + 1 < len(self) else len(self._items)
        return self._items[int(self._starts[index]) : int(stop)]


class _Spool:
    """A growing array on disk, in a file that goes when the array goes. InputError where there is no more space for it."""

    def __init__(self, dtype: type) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (the array reads from it)
        self._dtype, self._shape = np.dtype(dtype), ()

    def add(self, rows: np.ndarray) -> None:
        if len(rows):
            self._shape = rows.shape[1:]
            with self._errors():
                self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def whole(self) -> np.ndarray:
        """All rows, mapped into memory."""
        if not self._file.tell():
            return np.empty(0, self._dtype)
        with self._errors():
            self._file.flush()
        return np.memmap(self._file, self._dtype, "r").reshape(-1, *self._shape)

    @staticmethod
    def _errors() -> AbstractContextManager[None]:
        return disk_errors(
            tempfile.gettempdir(), "; free disk space, or name another folder for temporary files in TMPDIR"
        )


def _numbers(table: pa.Table) -> np.ndarray:
    """(M, S) of `probs`, or (M, K, S) of `trace_probs`. InputError where rows have different lengths."""
    name = TRACE_PROBS if TRACE_PROBS in table.column_names else PROBS
    values, shape = table[name].combine_chunks(), [table.num_rows]
    while pa.types.is_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1:
            raise InputError(
                f"targets: {name} has rows of different lengths; delete the folder and run `zreward label` again"
            )
        shape += lengths
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(shape) if table.num_rows else np.empty(0)
