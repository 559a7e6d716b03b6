"""The pictures of records, one record's at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from zreward.data import Record
from zreward.data.images import ImageSource


class PicturesOf(Sequence[tuple[ImageSource, ...]]):
    """Of each record, taken out when they are asked for: a shard's encoded pictures may not fit into memory."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, key: int) -> tuple[ImageSource, ...]: ...

    @overload
    def __getitem__(self, key: slice) -> list[tuple[ImageSource, ...]]: ...

    def __getitem__(self, key: int | slice) -> tuple[ImageSource, ...] | list[tuple[ImageSource, ...]]:
        if isinstance(key, slice):
            return [record.pictures for record in self._records[key]]
        return self._records[key].pictures
