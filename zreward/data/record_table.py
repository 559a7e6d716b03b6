"""Records on disk that are read one by one: an Arrow file, mapped into memory.

A row holds the fields of a `Record` (of a packed picture its file, name, offset and size) and what was found when its pictures
were checked: SHA-256 of the encoded bytes, the hash of the pixels, and the state of the file. Columns of pictures hold lists.
Scores are JSON text, as `save_records` writes them.
"""

from __future__ import annotations

import json
import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple, overload
from weakref import WeakValueDictionary

import pyarrow as pa

from zreward.data.images import ImageSource
from zreward.data.packed import PackedImage
from zreward.data.record import Record
from zreward.data.together import together

BATCH = 64  # rows that are written, and iterated, together; fewer where their pictures are large
_BYTES = 32 << 20  # of pictures, after which a batch ends
_RELEASED = 64 << 20  # bytes that were read, about, after which the memory of mapped pages is given back
_TEXT = pa.large_string()
_SCHEMA = pa.schema(
    [(name, _TEXT) for name in ("prompt", "answer", "scores", "stds", "group", "split", "rubric_version", "id")]
    + [("tags", pa.list_(_TEXT)), ("path", pa.list_(_TEXT)), ("packed", pa.list_(_TEXT))]
    + [("offset", pa.list_(pa.int64())), ("size", pa.list_(pa.int64())), ("content", pa.list_(pa.large_binary()))]
    + [("digest", pa.list_(pa.binary(32))), ("pixels", pa.list_(pa.binary(32)))]
    + [("state", pa.list_(pa.list_(pa.int64())))]
)
_CONTENT = _SCHEMA.get_field_index("content")
_NONE = "{}"  # the ratings of most rows
_IMAGE = ("path", "packed", "offset", "size", "content")
_RECORD = ("prompt", "answer", "scores", "stds", "group", "split", "rubric_version", "tags", "id", *_IMAGE)


class Seen(NamedTuple):
    """What is known of a picture."""

    digest: bytes  # SHA-256 of its encoded bytes
    pixels: bytes  # SHA-256 of its size and pixels
    state: tuple[int, ...] | None  # of its file (`zreward.data.file_state`), None for a picture inside a row


class Records(Sequence[Record]):
    """The records of a file, made when they are asked for. Slices are `Records`. A record that is kept is not made again."""

    def __init__(self, table: RecordTable, rows: range) -> None:
        self._table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Record: ...

    @overload
    def __getitem__(self, key: slice) -> Records: ...

    def __getitem__(self, key: int | slice) -> Record | Records:
        if isinstance(key, slice):
            return Records(self._table, self._rows[key])
        return self._table.record(self._rows[key])

    def __iter__(self) -> Iterator[Record]:
        return self._table.records(self._rows)

    def facts(self, ratings: bool) -> Iterator[list[object]]:
        """`record_facts` each, with the SHA-256 of its pictures' encoded bytes as they were when they were checked.

        `ratings`: also scores, their spreads and the group.
        """
        columns = ("prompt", "answer", "digest", *(("scores", "stds", "group") if ratings else ()))
        for row in self._table.values(self._rows, columns):
            rated = [_loaded(row["scores"]), _loaded(row["stds"]), row["group"]] if ratings else []
            yield [*record_facts(row["prompt"], row["answer"], [one.hex() for one in row["digest"]]), *rated]

    def pixel_hashes(self) -> Iterator[list[str]]:
        """Of each `zreward.data.images.pixel_hash` of its pictures, as they were when they were checked."""
        return ([one.hex() for one in row["pixels"]] for row in self._table.values(self._rows, ("pixels",)))

    def answers(self) -> Iterator[str | None]:
        """Without the rest of the records."""
        return (row["answer"] for row in self._table.values(self._rows, ("answer",)))

    def kinds(self) -> Iterator[tuple[int, bool]]:
        """`kinds_of`, without the rest of the records."""
        rows = self._table.values(self._rows, ("digest", "answer"))
        return ((len(row["digest"]), row["answer"] is not None) for row in rows)

    def prompts(self) -> Iterator[str]:
        """Without the rest of the records."""
        return (row["prompt"] for row in self._table.values(self._rows, ("prompt",)))

    def picture_files(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The path of each picture that is a file or in a shard, and the file's state then; of neighbours in one shard once."""
        rows = self._table.values(self._rows, ("path", "state"))
        files = (
            (path, tuple(state or ()))
            for row in rows
            for path, state in zip(row["path"], row["state"], strict=True)
            if path is not None
        )
        return (file for file, _ in groupby(files))


def kinds_of(records: Sequence[Record]) -> Iterator[tuple[int, bool]]:
    """Of each record how many pictures it shows and whether it has an answer. Quick for `Records`, which are not made for it."""
    if isinstance(records, Records):
        return records.kinds()
    return ((len(record.pictures), record.answer is not None) for record in records)


class RecordTable:
    """A file that `write_table` wrote. Errors of pyarrow, OSError and ValueError for what is none.

    All of its offsets and texts are checked first: pyarrow follows wrong ones out of the file, which ends the process.
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._reader, self._taken = pa.ipc.open_file(pa.py_buffer(self._map)), 0
        if self._reader.schema != _SCHEMA:
            raise pa.ArrowInvalid("another schema")
        self._mean_bytes = len(self._map) // max(self._reader.num_record_batches, 1)  # of a batch
        sizes = [self._checked_size(number) for number in range(self._reader.num_record_batches)]
        if not sizes or not all(0 < size <= BATCH for size in sizes):
            raise pa.ArrowInvalid("batches of another size")
        self._ends = list(accumulate(sizes))  # the row behind each batch
        self._alive: WeakValueDictionary[int, Record] = WeakValueDictionary()

    @property
    def whole(self) -> Records:
        return Records(self, range(self._ends[-1]))

    def record(self, row: int) -> Record:
        known = self._alive.get(row)
        if known is None:
            known = self._kept(row, next(self.values(range(row, row + 1), _RECORD)))
        return known

    def records(self, rows: range) -> Iterator[Record]:
        for row, values in zip(rows, self.values(rows, _RECORD), strict=True):
            yield self._alive.get(row) or self._kept(row, values)

    def values(self, rows: range, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Some columns of rows."""
        if rows.step != 1:
            for row in rows:
                yield from self.values(range(row, row + 1), columns)
            return
        number, at = bisect_right(self._ends, rows.start), rows.start
        while at < rows.stop:
            batch, end = self._batch(number, columns), self._ends[number]
            begin, stop = end - batch.num_rows, min(end, rows.stop)
            yield from batch.slice(at - begin, stop - at).to_pylist()
            number, at = number + 1, stop

    def _checked_size(self, number: int) -> int:
        batch = self._batch(number, _SCHEMA.names)
        batch.validate(full=True)
        return batch.num_rows

    def _batch(self, number: int, columns: Sequence[str]) -> pa.RecordBatch:
        self._taken += self._mean_bytes
        if self._taken >= _RELEASED and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # what was read stays in the system's cache, not in this process
            self._taken = 0
        return self._reader.get_batch(number).select(columns)

    def _kept(self, row: int, values: dict[str, Any]) -> Record:
        record = _record(values)
        self._alive[row] = record
        return record


def record_facts(prompt: str, answer: str | None, digests: Sequence[str]) -> list[object]:
    """What a record's fingerprint covers beside its ratings. Of one picture alone as version 0.1 wrote it."""
    pictures = digests[0] if len(digests) == 1 else list(digests)
    return [prompt, pictures, *([] if answer is None else [{"answer": answer}])]


def write_table(records: Iterable[tuple[Record, Sequence[Seen]]], file: Path) -> None:
    """Write records, at least one, a few at a time."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for part in together(map(_row, records), BATCH, _BYTES, _bytes_of):
            columns = zip(zip(*part, strict=True), _SCHEMA.types, strict=True)
            writer.write_batch(pa.record_batch([pa.array(*column) for column in columns], schema=_SCHEMA))


def _bytes_of(row: tuple[Any, ...]) -> int:
    return sum(len(content) for content in row[_CONTENT] if content is not None)


def _row(seen_record: tuple[Record, Sequence[Seen]]) -> tuple[Any, ...]:
    """Values in the order of the schema."""
    record, seen = seen_record
    texts = (record.prompt, record.answer, _dumped(record.scores), _dumped(record.stds), record.group, record.split)
    pictures = zip(*map(_place, record.pictures), strict=True) if record.pictures else [()] * len(_IMAGE)
    known = zip(*seen, strict=True) if seen else [()] * len(Seen._fields)
    return (*texts, record.rubric_version, record.id, record.tags, *pictures, *known)


def _place(image: ImageSource) -> tuple[Any, ...]:
    """Values in the order of `_IMAGE`."""
    if isinstance(image, PackedImage):
        return image.path, image.name, image.offset, image.size, None
    assert isinstance(image, str | bytes), "a source holds paths or encoded pictures"
    return (image, None, None, None, None) if isinstance(image, str) else (None, None, None, None, image)


def _record(values: dict[str, Any]) -> Record:
    columns = [values.pop(key) for key in _IMAGE]
    if None in columns:
        raise ValueError("a damaged table: a row without a list of pictures")
    pictures = [_picture(*place) for place in zip(*columns, strict=True)]
    for key in ("scores", "stds"):
        values[key] = _loaded(values[key])
    shown = {"image": pictures[0]} if len(pictures) == 1 else {"images": pictures}
    return Record(**shown, **values)


def _picture(path: Any, name: Any, offset: Any, size: Any, content: Any) -> ImageSource:
    if name is not None:
        return PackedImage(path, name, offset, size)
    return path if content is None else content


def _dumped(ratings: Mapping[str, Any]) -> str:
    return json.dumps(ratings) if ratings else _NONE


def _loaded(ratings: str) -> dict[str, Any]:
    return {} if ratings == _NONE else json.loads(ratings)
