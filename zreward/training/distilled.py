"""Items with a teacher's answers (RISD, RewardDance): their numbers lie in files that are mapped into memory.

Axes: M items (labelled pairs of record and dimension), K traces of one question, S score bins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.models.rollout import Trace
from zreward.training.annotated import AnnotatedItems
from zreward.training.direct import DirectItem, DirectItems
from zreward.training.lazy_items import Spool

TRACE_PROBS, PROBS = "trace_probs", "probs"


class DistilledItems(DirectItems):
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
        rows, dimensions, probs = Spool(np.int32), Spool(np.int16), Spool(np.float64)
        for table in tables:
            rows.add(table["record"].to_numpy())
            dimensions.add(pc.index_in(table["dimension"], value_set=pa.array(names, pa.string())).to_numpy())
            probs.add(_numbers(table))
        self._rows_M, self._dimensions_M, self._probs = rows.whole(), dimensions.whole(), probs.whole()

    def __len__(self) -> int:
        return len(self._rows_M)

    def make(self, index: int) -> DirectItem:
        record = self._records[int(self._rows_M[index])]
        return DirectItem(record, self._names[self._dimensions_M[index]], self._target(index))

    def _target(self, index: int) -> Tensor:
        probs = torch.tensor(self._probs[index], dtype=torch.get_default_dtype())
        probs_S = probs.mean(0) if probs.ndim == 2 else probs
        if self._one_hot:
            probs_S = torch.nn.functional.one_hot(probs_S.argmax(), len(probs_S)).float()
        return probs_S

    def pictures(self) -> np.ndarray:
        return self._rows_M


class Chains:
    """Post-hoc chains, each of one record and dimension, as token ids on disk."""

    def __init__(self) -> None:
        self._places, self._stops, self._tokens, self._count = Spool(np.int32), Spool(np.int64), Spool(np.int32), 0

    def add(self, row: int, dimension: int, chain: Trace) -> None:
        self._count += len(chain)
        self._places.add(np.array([(row, dimension)]))
        self._stops.add(np.array([self._count]))
        self._tokens.add(np.array(chain.ids))

    def whole(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(M, 2) row and dimension, (M,) where each chain stops, and all tokens."""
        return self._places.whole().reshape(-1, 2), self._stops.whole(), self._tokens.whole()


class ExplainedItems(DirectItems):
    """Annotated items, each with its post-hoc chain. KeyError unless every item has one."""

    def __init__(self, items: AnnotatedItems, chains: Chains) -> None:
        self._items = items
        places_M2, self._stops_M, self._tokens = chains.whole()
        self._order_M = np.lexsort(places_M2.T[::-1])
        wanted = np.stack([items.rows_M, items.dimensions_M], 1)
        if not np.array_equal(places_M2[self._order_M], wanted):
            raise KeyError("a rated record has no chain")

    def __len__(self) -> int:
        return len(self._items)

    def make(self, index: int) -> DirectItem:
        item, place = self._items[index], self._order_M[index]
        start = self._stops_M[place - 1] if place else 0
        chain = Trace(tuple(self._tokens[start : self._stops_M[place]].tolist()), truncated=False)
        return replace(item, explanation=(int(item.target.argmax()), chain))

    def pictures(self) -> np.ndarray:
        return self._items.pictures()


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
