"""Reading records strictly: JSONL, Parquet and Hugging Face data sets.

A JSONL line, or a Parquet row, holds the fields of `Record`:

    {"prompt": "a red cube", "image": "images/1.png", "scores": {"alignment": {"r1": 4, "r2": 4.5}, "realism": 3.5}}
    {"prompt": "make it blue", "images": ["images/1.png", "images/2.png"], "scores": {"instruction": 4}}
    {"prompt": "Why is the sky blue?", "answer": "Because air scatters blue light.", "scores": {"correctness": 5}}

Image paths are relative to the file. In Parquet (and data sets) `image` is a path, bytes, or the Hugging Face struct
{bytes, path}; `scores` and `stds` are JSON text, which `save_records` writes, or structs with null where nobody rated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.places import FirstPlaces
from zreward.data.record import Record
from zreward.data.row_checks import checked
from zreward.data.sources import Source, SourceRow, as_source, read_rows
from zreward.rubric import Rubric

T = TypeVar("T")


@dataclass(frozen=True)
class Reading(Generic[T]):
    """How a source of records is read: which of them are wanted, and what is looked at.

    `look` is called, in threads, with every wanted record; its InputError makes the line a bad one. `note` is called with
    every good record, also those of other splits.
    """

    given: Any
    look: Callable[[Record], T]
    rubric: Rubric | None = None
    skip_bad: bool = False
    split: str | None = None
    progress: bool = False
    note: Callable[[Record], None] | None = None

    @cached_property
    def source(self) -> Source | None:
        """None for a data set in memory."""
        return as_source(self.given)

    @property
    def name(self) -> str:
        return str(self.source or "data set")

    @cached_property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.source.folder if self.source is not None else Path()

    def bad_lines(self) -> BadLines:
        return BadLines(self.name, self.skip_bad, self.source.report if self.source is not None else None)


def load_records(
    source: Any,
    rubric: Rubric | None = None,
    skip_bad: bool = False,
    check_images: bool | None = True,
    split: str | None = None,
    progress: bool = False,
) -> list[Record]:
    """All records of a source, in memory.

    `open_records` gives the same records one by one, and opens no picture that it has checked before.

    Args:
        source: path of a .jsonl or .parquet file, or any other name of `zreward.data.sources`; a `Source`; or a
            `datasets.Dataset`. Image paths are relative to the file.
        rubric: refuse dimensions it does not have and scores off its scale.
        skip_bad: skip bad lines and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        check_images: decode every image (finds truncated files before training does); False: only check that it exists;
            None: not even that, for labels alone.
        split: keep only records of this split; images of the others are not checked.
        progress: show a progress bar.

    Returns:
        The records, in the order of the source.

    Raises:
        InputError: "FILE:LINE: reason" for up to 20 bad lines; an empty source; an unknown split.
    """
    reading = Reading(source, lambda record: record.check_image(check_images), rubric, skip_bad, split, progress)
    return [record for record, _ in read_records(reading, reading.bad_lines())]


def read_records(reading: Reading[T], bad: BadLines) -> Iterator[tuple[Record, T]]:
    """The wanted records of a source, one after the other, each with what `look` returned.

    Bad lines go to `bad`, which is finished at the end. InputError as `load_records`, and for a split without a record.
    """
    good = wanted = 0
    splits: set[str] = set()
    rows = read_rows(reading.given)
    shown = tqdm(rows, f"reading {Path(reading.name).name}", unit=" records", disable=not reading.progress)
    with closing(FirstPlaces()) as places:
        for row, (record, seen) in checked(partial(_check, reading=reading), shown):
            if isinstance(record, Record) and record.id is not None:
                first = places.first(record.id, row.place)
                if first != row.place:
                    record = InputError(f"id {record.id!r} is that of {first} already")
            if isinstance(record, InputError):
                bad.add(
                    BadLine(row.number, row.place, str(record), row.text, image_file(row, reading.folder, str(record)))
                )
                continue
            good += 1
            if reading.note is not None:
                reading.note(record)
            splits |= {record.split} if record.split is not None else set()
            if _is_wanted(record, reading):
                wanted += 1
                yield record, seen
    bad.finish(good)
    if not wanted:
        raise _no_such_split(reading, sorted(splits))


def image_file(row: SourceRow, folder: Path, problem: str = "") -> str | None:
    """The file that a row names as its image, of several the one that its problem names; the row may be wrong in any way."""
    several = (row.data or {}).get("images")
    given = [(row.data or {}).get("image"), *(several if isinstance(several, list) else [])]
    names = [one.get("path") if isinstance(one, dict) and one.get("bytes") is None else one for one in given]
    files = [str(folder / name) for name in names if isinstance(name, str)]
    return next((file for file in files if file in problem), files[0] if files else None)


def _check(row: SourceRow, reading: Reading[Any]) -> tuple[Record | InputError, Any]:
    """Its record, and what was seen of it; or what is wrong with it."""
    try:
        if row.data is None:
            raise InputError(row.error)
        record = Record.from_dict(row.data, reading.folder)
        if reading.rubric is not None:
            record.validate(reading.rubric)
        return record, reading.look(record) if _is_wanted(record, reading) else None
    except InputError as error:
        return error, None


def _is_wanted(record: Record, reading: Reading[Any]) -> bool:
    return reading.split is None or record.split == reading.split


def _no_such_split(reading: Reading[Any], splits: list[str]) -> InputError:
    there = f"the splits in it are {', '.join(map(repr, splits))}" if splits else "its records name no split at all"
    return InputError(f"{reading.name}: no record of split {reading.split!r}; {there}")
