"""Training items that are made when they are asked for: what tells them apart lies in arrays on disk, mapped into memory.

Axes: M items.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TypeVar, overload

import numpy as np

from zreward.common.files import disk_errors
from zreward.data import Pair

_PART = 4096  # pairs that are written together
T = TypeVar("T")


class LazyItems(Sequence[T]):
    """Items that `make` makes; slices are lists."""

    @abstractmethod
    def make(self, index: int) -> T:
        """The item at `index`, 0 or more."""

    @overload
    def __getitem__(self, key: int) -> T: ...

    @overload
    def __getitem__(self, key: slice) -> list[T]: ...

    def __getitem__(self, key: int | slice) -> T | list[T]:
        chosen = range(len(self))[key]
        return self.make(chosen) if isinstance(chosen, int) else [self.make(index) for index in chosen]


class Groups(LazyItems[list[T]]):
    """Items of one key together, in the order of their first; without keys each on its own.

    Args:
        items: the M items.
        keys: (M,), 0 or more.
    """

    def __init__(self, items: Sequence[T], keys: np.ndarray | None = None) -> None:
        self._items = items
        self._order: Sequence[int] | np.ndarray = range(len(items))
        self._starts: Sequence[int] | np.ndarray = self._order
        if keys is None:
            return
        if np.any(np.diff(keys) < 0):
            _, firsts, group_M = np.unique(keys, return_index=True, return_inverse=True)
            self._order = np.argsort(firsts[group_M], kind="stable")
            keys = firsts[group_M][self._order]
        self._starts = np.flatnonzero(np.diff(keys, prepend=-1))

    def __len__(self) -> int:
        return len(self._starts)

    def make(self, index: int) -> list[T]:
        stop = self._starts[index + 1] if index + 1 < len(self) else len(self._order)
        return [self._items[int(place)] for place in self._order[self._starts[index] : stop]]


class SpooledPairs(LazyItems[Pair]):
    """Pairs that lie in arrays."""

    def __init__(self, pairs: Iterable[Pair], names: Sequence[str]) -> None:
        self._names, sides, gaps = tuple(names), Spool(np.int32), Spool(np.float64)
        number_of = {name: number for number, name in enumerate(names)}
        pairs = iter(pairs)
        while part := list(islice(pairs, _PART)):
            sides.add(np.array([(pair.winner, pair.loser, number_of[pair.dimension]) for pair in part]))
            gaps.add(np.array([pair.gap for pair in part]))
        self._sides_M3, self._gap_M = sides.whole(), gaps.whole()

    def __len__(self) -> int:
        return len(self._gap_M)

    def make(self, index: int) -> Pair:
        winner, loser, number = map(int, self._sides_M3[index])
        return Pair(winner, loser, self._names[number], float(self._gap_M[index]))


class Spool:
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
