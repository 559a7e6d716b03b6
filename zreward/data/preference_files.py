"""Reading and writing preferences: JSONL, Parquet and Hugging Face data sets, as strictly as records.

A JSONL line, or a Parquet row, holds the fields of `Preference`, or `ranks` in place of `votes` for a ranked list:

    {"prompt": "a red cube", "images": ["a.png", "b.png"], "votes": {"a": 7, "b": 2, "tie": 1}}
    {"prompt": "a red cube", "images": ["a.png", "b.png", "c.png"], "ranks": {"overall": {"r1": [1, 3, 2]}}}

Image paths are relative to the file. In Parquet (and data sets) each image is a path, bytes, or the Hugging Face struct
{bytes, path}; `votes` and `ranks` are JSON text, which `save_preferences` writes, or structs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.preference import Preference, check_preference_key, preferences_of
from zreward.data.preference import check_images as look_at
from zreward.data.sources import Layout, Source, SourceRow, as_source, read_rows
from zreward.data.writing import check_output, image_file, image_struct, parts_of

LAYOUT = Layout(check_preference_key, ("votes", "ranks"), "images", single=False)
_ANY = Layout(lambda key: None, (), "image or images")
_CHUNK = 64  # rows whose pictures are decoded together


def load_preferences(
    source: Any,
    skip_bad: bool = False,
    check_images: bool | None = True,
    split: str | None = None,
    progress: bool = False,
) -> list[Preference]:
    """All preferences of a .jsonl or .parquet file, or of a `datasets.Dataset`; a ranked list becomes all of its pairs.

    Args:
        source: path of the file, or the data set. Image paths are relative to the file.
        skip_bad: skip bad lines and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        check_images: decode every image; False: only check that it exists; None: not even that, for labels alone.
        split: keep only those of this split; images of the others are not checked.
        progress: show a progress bar.

    Returns:
        The preferences, in the order of the source.

    Raises:
        InputError: "FILE:LINE: reason" for up to 20 bad lines; an empty source; an unknown split.
    """
    named = as_source(source)
    name, folder = (str(named), named.folder) if named is not None else ("data set", Path())
    bad = BadLines(name, skip_bad, named.report if named is not None else None)
    rows = read_rows(source, LAYOUT)
    shown = tqdm(rows, f"reading {Path(name).name}", unit=" lines", disable=not progress)
    found: list[Preference] = []
    good, places, splits = 0, dict[str, str](), set[str]()
    for row, line in _checked(iter(shown), folder, split, check_images):
        if not isinstance(line, InputError) and row.data is not None and isinstance(name_of := row.data.get("id"), str):
            first = places.setdefault(name_of, row.place)
            if first != row.place:
                line = InputError(f"id {name_of!r} is that of {first} already")
        if isinstance(line, InputError):
            bad.add(BadLine(row.number, row.place, str(line), row.text))
            continue
        good += 1
        splits |= {one.split for one in line if one.split is not None}
        found += [one for one in line if split is None or one.split == split]
    bad.finish(good)
    if not found:
        there = f"the splits in it are {', '.join(map(repr, sorted(splits)))}" if splits else "its lines name no split"
        raise InputError(f"{name}: no preference of split {split!r}; {there}")
    return found


def holds_preferences(source: str | os.PathLike[str] | Source) -> bool:
    """Whether the first row of a file is one of preferences, not a record. InputError: no such file.

    Both may have `images`; a record has `scores` or an `answer` beside them.
    """
    row = next(read_rows(source, _ANY), None)
    if row is None or row.data is None:
        return False
    return row.data.get("images") is not None and not {"scores", "answer"} & set(row.data)


def _checked(
    rows: Iterator[SourceRow], folder: Path, split: str | None, check_images: bool | None
) -> Iterator[tuple[SourceRow, list[Preference] | InputError]]:
    """Each row with its preferences, or what is wrong with it."""

    def check(row: SourceRow) -> list[Preference] | InputError:
        try:
            if row.data is None:
                raise InputError(row.error)
            line = preferences_of(row.data, folder)
            look_at([one for one in line if split is None or one.split == split], check_images)
            return line
        except InputError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        while chunk := list(islice(rows, _CHUNK)):
            yield from zip(chunk, threads.map(check, chunk), strict=True)


def save_preferences(preferences: Iterable[Preference], path: str | os.PathLike[str]) -> Path:
    """Write `preferences`, which may come one by one, to PATH (.jsonl or .parquet) so that `load_preferences` gives them back.

    Pictures as by `save_records`: paths below PATH's folder become relative to it; pictures in memory are embedded (Parquet)
    or written beside the file (JSONL).
    """
    path, preferences = check_output(path, preferences, "preference")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(preferences, path, temporary)
            return path
        with temporary.open("w", encoding="utf-8") as file:
            for number, one in enumerate(preferences):
                images = [
                    image_file(image, f"{number:06d}{side}", path) for image, side in zip(one.images, "ab", strict=True)
                ]
                row = {key: value for key, value in _fields(one, images).items() if value not in (None, {}, [])}
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _fields(one: Preference, images: list[Any]) -> dict[str, Any]:
    return {
        "id": one.id,
        "prompt": one.prompt,
        "images": images,
        "votes": dict(one.votes),
        "models": list(one.models),
        "group": one.group,
        "split": one.split,
        "tags": list(one.tags),
    }


def _write_parquet(preferences: Iterator[Preference], path: Path, temporary: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    types = dict.fromkeys(("id", "prompt", "votes", "group", "split"), text)
    types |= dict.fromkeys(("models", "tags"), pa.list_(text))
    types["images"] = pa.list_(pa.struct([("bytes", pa.binary()), ("path", text)]))
    value = {"dtype": "string", "_type": "Value"}
    notes = {"images": {"feature": {"_type": "Image"}, "_type": "List"}}
    notes |= {name: {"feature": value, "_type": "List"} for name in ("models", "tags")}
    features = {name: notes.get(name, value) for name in types}
    schema = pa.schema(list(types.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})
    with pq.ParquetWriter(temporary, schema) as writer:
        for part in parts_of(preferences, lambda one: one.images):
            rows = []
            for one in part:
                row = _fields(one, [image_struct(image, path.parent) for image in one.images])
                rows.append(row | {"votes": json.dumps(row["votes"], ensure_ascii=False)})
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
