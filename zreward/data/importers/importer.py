"""What the importers of published data sets have in common: their description, how they read, how the result is written.

An importer is one file that describes a data set by an `Importer`; `zreward.data.importers.registry` lists them all. Its
`read` goes over the published rows (`zreward.data.importers.rows`) with `Reading.each` and turns each into records or
preferences; what it refuses by InputError becomes a bad line with its place. Nothing is downloaded, nothing is held whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from zreward.common.errors import InputError, shown
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.fields import plain_text
from zreward.data.images import ImageSource, check_path, held_image, open_image, refuse_url
from zreward.data.importers.rubrics import Published, onto_rubric, own_rubric
from zreward.data.preference import Preference
from zreward.data.preference_files import save_preferences
from zreward.data.record import Record
from zreward.data.sources import SourceRow
from zreward.data.writing import save_records
from zreward.rubric import Rubric

CHECKS = ("decode", "exist", "none")
"""How pictures are checked: decoded, which finds truncated ones; that their files exist; not at all, to look at labels only."""
_CHUNK = 64  # rows whose pictures are decoded together
T = TypeVar("T")


@dataclass(frozen=True)
class Importer:
    """A published data set, as the table of `zreward data import` prints it, and what reads it.

    Args:
        name: on the command line.
        title: the publisher's name for it.
        source: hub name or repository.
        licence: as the publisher states it.
        layout: what ROOT holds.
        holds: what was published.
        targets: what becomes of it, with the scale.
        missing: what was not published, and so is not in the result.
        checked: where the layout was taken from, and which real file was read with it.
        makes: Record or Preference.
        read: yields them; None where `zreward.cli.data` calls a function of its own.
        dimensions: what was rated, with ranges. Records then come with values as published, and are written on the scale of
            the user's rubric, or of one of these dimensions, which is written beside them.
        embedded: pictures are inside the files; the default output is then Parquet, which holds them as they are.
    """

    name: str
    title: str
    source: str
    licence: str
    layout: str
    holds: str
    targets: str
    missing: str
    checked: str
    makes: type[Record] | type[Preference]
    read: Callable[[Reading], Iterator[Any]] | None
    embedded: bool = False
    dimensions: Mapping[str, Published] = field(default_factory=dict)

    @property
    def result(self) -> str:
        return "records" if self.makes is Record else "preferences"


class Reading:
    """One run of an importer over the files of ROOT."""

    def __init__(self, root: Path, images: Path | None, layout: str, bad: BadLines, check: str = "decode") -> None:
        self.root, self.layout, self.bad, self.check = root, layout, bad, check
        self.images = images or (root.parent if root.is_file() else root)
        self.good = self.passed = 0  # rows
        self._seen: set[int] = set()  # hashes of the paths of good pictures
        self._ids: set[int] = set()

    def files(self, *patterns: str) -> list[Path]:
        """The files of ROOT that match any of the patterns; ROOT itself if it is a file. InputError where there is none."""
        if self.root.is_file():
            return [self.root]
        found = [path for pattern in patterns for path in sorted(self.root.glob(pattern)) if path.is_file()]
        if not found:
            raise InputError(f"{self.root}: no {' or '.join(patterns)}; expected {self.layout}")
        return list(dict.fromkeys(found))

    def picture(self, image: Any, what: str = "image", folder: str = "") -> ImageSource:
        """A picture of a row, checked: its path, or its bytes where they are inside the row.

        Args:
            image: a path relative to the folder of pictures, bytes, or {bytes, path}.
            what: the field, for messages.
            folder: where paths start, below the folder of pictures.

        Raises:
            InputError: a URL, a path that leads elsewhere; as `check`, a missing or damaged picture.
        """
        try:
            image = held_image(image)
            if isinstance(image, bytes):
                if self.check == "decode":
                    open_image(image)
                return image
            path = self._path(image, folder)
            if hash(path) not in self._seen:
                self._look_at(path)
                self._seen.add(hash(path))
            return path
        except InputError as error:
            raise InputError(f"{what}: {error}") from None

    def each(self, rows: Iterable[SourceRow], convert: Callable[[Mapping[str, Any]], T | None]) -> Iterator[T]:
        """What `convert` makes of the rows, in their order; a row that it refuses is a bad one.

        `convert` returns None for a row that nobody labelled: it is passed over, and counted. It runs in several threads.
        Ids of records and preferences must be unique over all rows.
        """

        def attempt(row: SourceRow) -> T | InputError | None:
            try:
                if row.data is None:
                    raise InputError(row.error)
                return convert(row.data)
            except InputError as error:
                return error

        remaining = iter(tqdm(rows, f"reading {self.root.name}", unit=" rows", disable=None))
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            while chunk := list(islice(remaining, _CHUNK)):
                for row, made in zip(chunk, threads.map(attempt, chunk), strict=True):
                    found = made if isinstance(made, InputError) else self._unique(made)
                    if isinstance(found, InputError):
                        self.bad.add(BadLine(row.number, row.place, str(found), row.text))
                    elif found is None:
                        self.passed += 1
                    else:
                        self.good += 1
                        yield found

    def _look_at(self, path: str) -> None:
        try:
            if self.check == "decode":
                open_image(path)
            elif self.check == "exist":
                check_path(path)
        except InputError as error:
            folder = Path(path).parent
            archive = folder.with_name(f"{folder.name}.zip")
            advice = f"; unpack {archive} into {folder}" if archive.is_file() and not folder.is_dir() else ""
            raise InputError(f"{error}{advice}") from None

    def _path(self, image: Any, folder: str) -> str:
        path = plain_text(image, "path")
        refuse_url(path)
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise InputError(f"{shown(path)} leads out of the folder of pictures; expected a path inside it")
        return str(self.images / folder / path)

    def _unique(self, found: T | None) -> T | InputError | None:
        ids = [
            one.id for one in (found if isinstance(found, list) else [found]) if isinstance(one, Record | Preference)
        ]
        for name in ids:
            if name is not None and hash(name) in self._ids:
                return InputError(f"id {name!r} is that of an earlier row")
        self._ids.update(hash(name) for name in ids if name is not None)
        return found


class Imported(NamedTuple):
    """Where the records or preferences are, how many were made, and how many rows without a label were passed over."""

    path: Path
    made: int
    passed: int


def run_importer(
    importer: Importer,
    root: Path,
    out: Path,
    images: Path | None = None,
    skip_bad: bool = False,
    check: str = "decode",
    rubric: Rubric | None = None,
) -> Imported:
    """Convert a published data set to records or preferences, row by row.

    Args:
        importer: of the data set.
        root: its folder, or one file of it, in the layout that the importer describes.
        out: a .jsonl or .parquet file, or a folder for it. Files of pictures are not copied.
        images: folder that paths of pictures start at; default: that of `root`.
        skip_bad: write bad rows to OUT.skipped.jsonl instead of stopping.
        check: one of CHECKS.
        rubric: on whose scale the ratings are written; default: one of what was rated, 1 to 5, written to OUT.rubric.yaml.

    Raises:
        InputError: another layout; FILE:LINE and the field for up to 20 bad rows.
    """
    if check not in CHECKS:
        raise InputError(f"pictures {check!r} is unknown; expected one of {', '.join(CHECKS)}")
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; expected {importer.layout}")
    assert importer.read is not None, "a data set with a function of its own"
    if rubric and not importer.dimensions:
        raise InputError(f"{importer.name} holds no ratings that a rubric could be put on; leave the rubric out")
    read, path = importer.read, out
    if out.suffix.lower() not in (".jsonl", ".parquet"):
        path = out / f"{importer.result}{'.parquet' if importer.embedded else '.jsonl'}"
    scale = rubric or (own_rubric(importer.name, importer.dimensions) if importer.dimensions else None)
    bad = BadLines(str(root), skip_bad, f"{path}.skipped.jsonl")
    reading = Reading(root, images, importer.layout, bad, check)
    count = 0

    def rows() -> Iterator[Any]:
        nonlocal count
        found = read(reading)
        for one in onto_rubric(found, importer.dimensions, scale) if scale else found:
            count += 1
            yield one
        bad.finish(reading.good)

    save: Callable[[Iterable[Any], Path], Path] = save_records if importer.makes is Record else save_preferences
    saved = save(rows(), path)
    if scale and not rubric:
        scale.to_yaml(f"{path}.rubric.yaml")
    return Imported(saved, count, reading.passed)
