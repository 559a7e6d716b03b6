"""Reading records strictly: JSONL, Parquet and Hugging Face data sets.

A JSONL line, or a Parquet row, holds the fields of `Record`:

    {"prompt": "a red cube", "image": "images/1.png", "scores": {"alignment": {"r1": 4, "r2": 4.5}, "realism": 3.5}}

Image paths are relative to the file. In Parquet (and data sets) `image` is a path, bytes, or the Hugging Face struct
{bytes, path}; `scores` and `stds` are JSON text, which `save_records` writes, or structs with null where nobody rated.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.record import Record
from zreward.data.sources import SourceRow, read_rows
from zreward.rubric import Rubric

_CHUNK = 64  # rows whose images are decoded together


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
        source: path of the file, or the data set. Image paths are relative to the file.
        rubric: refuse dimensions it does not have and scores off its scale.
        skip_bad: skip bad lines and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        check_images: decode every image (finds truncated files before training does); else only check that it exists.
        split: keep only records of this split; images of the others are not checked.
        progress: show a progress bar.

    Returns:
        The records, in the order of the source.

    Raises:
        InputError: "FILE:LINE: reason" for up to 20 bad lines; an empty source; an unknown split.
    """
    is_file = isinstance(source, str | os.PathLike)
    name, folder = (str(source), Path(source).parent) if is_file else ("data set", Path())
    bad = BadLines(name, skip_bad, f"{name}.skipped.jsonl" if is_file else None)

    def check(row: SourceRow) -> Record | InputError:
        try:
            if row.data is None:
                raise InputError(row.error)
            record = Record.from_dict(row.data, folder)
            if rubric is not None:
                record.validate(rubric)
            if split is None or record.split == split:
                record.check_image(decode=check_images)
            return record
        except InputError as error:
            return error

    records: list[Record] = []
    places: dict[str, str] = {}
    rows = iter(tqdm(read_rows(source), f"reading {Path(name).name}", unit=" records", disable=not progress))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        while chunk := list(islice(rows, _CHUNK)):
            for row, record in zip(chunk, threads.map(check, chunk), strict=True):
                if isinstance(record, Record) and record.id is not None:
                    first = places.setdefault(record.id, row.place)
                    if first != row.place:
                        record = InputError(f"id {record.id!r} is that of {first} already")
                if isinstance(record, InputError):
                    bad.add(BadLine(row.number, row.place, str(record), row.text))
                else:
                    records.append(record)
    bad.finish(len(records))
    return records if split is None else _of_split(records, split, name)


def _of_split(records: list[Record], split: str, name: str) -> list[Record]:
    kept = [record for record in records if record.split == split]
    if not kept:
        there = sorted({record.split for record in records if record.split is not None})
        raise InputError(
            f"{name}: no record of split {split!r}; "
            + (f"the splits in it are {', '.join(map(repr, there))}" if there else "its records name no split at all")
        )
    return kept
