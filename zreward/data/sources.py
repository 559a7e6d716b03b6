"""Where records come from: a name, and the rows that it stands for, one after the other, before they are checked.

ratings.jsonl, ratings.parquet               a file
shards/{000000..000099}.tar, shards/*.tar    WebDataset shards; also patterns of Parquet and JSONL files
shards/                                      a folder of shards of one kind
pictures/                                    a folder with pictures.jsonl, or of pictures with .txt or .json beside them
saved/, hf:OWNER/NAME, hf:FOLDER             a Hugging Face data set: saved by `save_to_disk`, on the hub, or a local folder
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.data import hub_sets
from zreward.data.file_state import State
from zreward.data.images import suffixes
from zreward.data.manifest import PICTURE_LIST, manifest_rows
from zreward.data.patterns import is_pattern, matching
from zreward.data.row_files import dataset_rows, json_lines, parquet_rows
from zreward.data.rows import ALIKE, RECORDS, SEVERAL, Fields, Layout, SourceRow, parse_json
from zreward.data.samples import files_in, folder_rows, tar_rows

__all__ = ["RECORDS", "Fields", "Layout", "Source", "SourceRow", "json_lines", "parse_json", "read_rows"]

_TAR, _JSONL, _PARQUET = "tar", "jsonl", "parquet"
_KINDS = {".tar": _TAR, ".tgz": _TAR, ".jsonl": _JSONL, ".ndjson": _JSONL, ".parquet": _PARQUET}
SKIPPED = ".skipped.jsonl"
_EXPECTED = "expected .jsonl, .parquet or .tar"


@dataclass(frozen=True)
class Source:
    """A name of records, and what they call their prompt and their picture.

    Args:
        name: a file, a pattern, a folder or hf:NAME, as above.
        fields: other names of the prompt and the picture.
    """

    name: str
    fields: Fields = ALIKE

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        """Where the relative paths of its rows start."""
        return Path() if self.is_hub or is_pattern(self.name) else Path(self.name).parent

    def absolute(self) -> Source:
        """The same for a process with another working directory."""
        if self.is_hub:
            folder = hub_sets.local_folder(self.name)
            return self if folder is None else replace(self, name=f"{hub_sets.PREFIX}{folder.absolute()}")
        return replace(self, name=os.path.abspath(self.name))

    @property
    def report(self) -> Path:
        """Where skipped rows are listed: beside a file or a folder; for a pattern, and a set of the hub, in this folder."""
        if self.is_hub or is_pattern(self.name):
            return Path(re.sub(r"[^\w.-]+", "_", self.name) + SKIPPED)
        return Path(self.name + SKIPPED)

    @property
    def is_one_file(self) -> bool:
        return not (self.is_hub or is_pattern(self.name) or os.path.isdir(self.name))

    @property
    def is_hub(self) -> bool:
        return self.name.startswith(hub_sets.PREFIX)

    def shards(self) -> list[str]:
        """The files of a pattern, and those of a folder of shards; [] for any other source. InputError for several kinds."""
        if self.is_hub:
            return []
        if is_pattern(self.name):
            return _of_one_kind(matching(self.name), self.name)
        if not os.path.isdir(self.name) or hub_sets.is_saved(Path(self.name)):
            return []
        entries = sorted(os.path.join(self.name, name) for name in os.listdir(self.name) if not name.startswith("."))
        found = [path for path in entries if _kind(path) and os.path.basename(path) != PICTURE_LIST]
        return _of_one_kind(found, self.name) if found else []

    def files(self) -> Iterator[str]:
        """The files whose contents, or whose being there, its rows depend on; of the hub: none."""
        if self.is_one_file:
            yield self.name
        elif shards := self.shards():
            yield from shards
        else:
            folder = hub_sets.local_folder(self.name) if self.is_hub else Path(self.name)
            yield from map(str, files_in(folder)) if folder is not None else ()

    def state(self, ask: Callable[[str], State | None]) -> Any:
        """What changes when its rows do: of one file what `ask` says of it; else a digest, in which pictures count by name."""
        if self.is_one_file:
            return ask(self.name)
        digest = sha256()
        revision = hub_sets.revision(self.name) if self.is_hub else None
        digest.update(repr(revision).encode())
        pictures = () if self.is_hub else suffixes()
        for file in self.files():
            state = None if os.path.splitext(file)[1].lower() in pictures else ask(file)
            digest.update(repr((file, state)).encode(errors="surrogateescape"))
        return digest.hexdigest()


def as_source(source: Any) -> Source | None:
    """What names rows; None for anything else, such as a data set in memory."""
    if isinstance(source, str | os.PathLike):
        return Source(os.fspath(source))
    return source if isinstance(source, Source) else None


def read_rows(source: Any, layout: Layout = RECORDS) -> Iterator[SourceRow]:
    """Rows of a `Source` (or of what names one), or of a `datasets.Dataset` / `IterableDataset`."""
    named = as_source(source)
    if named is None:
        yield from dataset_rows(source, layout)
        return
    try:
        yield from _rows(named, layout)
    except OSError as error:
        raise InputError(f"{named}: cannot be read: {error.strerror or error}") from error


def _rows(source: Source, layout: Layout) -> Iterator[SourceRow]:
    path, fields, shards = Path(source.name), source.fields, source.shards()
    if source.is_hub or (not shards and hub_sets.is_saved(path)):
        yield from hub_sets.rows(source.name, layout, fields)
    elif shards:
        yield from _shard_rows(shards, source, layout)
    elif path.is_dir():
        _only_records(layout, source.name)
        yield from manifest_rows(path) if (path / PICTURE_LIST).exists() else folder_rows(path, fields)
    else:
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected records as .jsonl or .parquet, or shards as .tar")
        if _kind(str(path)) is None:
            raise InputError(f"{path}: unknown file type {path.suffix!r}; {_EXPECTED}")
        yield from _file_rows(str(path), "", itertools.count(), layout, fields)


def _shard_rows(shards: list[str], source: Source, layout: Layout) -> Iterator[SourceRow]:
    """Rows of all shards, counted through."""
    common = os.path.commonpath([os.path.dirname(os.path.abspath(shard)) for shard in shards])
    numbers = itertools.count()
    for shard in shards:
        below = os.path.relpath(os.path.abspath(shard), common)
        for row in _file_rows(shard, below, numbers, layout, source.fields):
            yield row if _kind(shard) == _TAR else _placed(row._replace(number=next(numbers)), shard, source, layout)


def _file_rows(path: str, below: str, numbers: Iterator[int], layout: Layout, fields: Fields) -> Iterator[SourceRow]:
    kind = _kind(path)
    if kind == _TAR:
        _only_records(layout, path)
        return tar_rows(path, os.path.splitext(below or os.path.basename(path))[0], numbers, fields)
    if kind == _PARQUET:
        return parquet_rows(Path(path), layout, fields)
    return json_lines(Path(path), f"an object with prompt and {layout.image}", fields)


def _placed(row: SourceRow, shard: str, source: Source, layout: Layout) -> SourceRow:
    """The row with the paths of its pictures from the source's folder on, not from its shard's."""
    home = os.path.relpath(os.path.dirname(shard) or ".", source.folder)
    data = dict(row.data or {})
    for column in (layout.image, SEVERAL):
        images = data.get(column)
        if images is not None:
            data[column] = [_under(home, one) for one in images] if isinstance(images, list) else _under(home, images)
    return row if row.data is None else row._replace(data=data)


def _under(home: str, image: Any) -> Any:
    if isinstance(image, str) and home != "." and "://" not in image:
        return os.path.join(home, image)
    if isinstance(image, dict) and image.get("bytes") is None and isinstance(image.get("path"), str):
        return {**image, "path": _under(home, image["path"])}
    return image


def _kind(path: str) -> str | None:
    name = path.lower()
    return _TAR if ".tar." in os.path.basename(name) else _KINDS.get(os.path.splitext(name)[1])


def _of_one_kind(files: list[str], name: str) -> list[str]:
    files = [file for file in files if not file.endswith(SKIPPED)]
    kinds = {_kind(file) for file in files}
    if None in kinds:
        wrong = next(file for file in files if _kind(file) is None)
        raise InputError(f"{name}: {wrong}: unknown file type; {_EXPECTED}")
    if len(kinds) > 1:
        raise InputError(
            f"{name}: files of several kinds ({', '.join(sorted(map(str, kinds)))}); name those of one by a pattern"
        )
    return files


def _only_records(layout: Layout, name: str) -> None:
    if not layout.single:
        raise InputError(f"{name}: such a source holds single pictures; expected .jsonl or .parquet")
