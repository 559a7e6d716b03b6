"""Records that stay on disk, checked once: rows and what was found of their pictures, in the user's cache folder.

    ~/.cache/zreward/records/<digest of the file's path and the options>/      XDG_CACHE_HOME moves it

Where all lines are good it serves every rubric that the ratings fit: labelling and training check a pool's pictures once.
It is made anew when a data file, one of the pictures, or a line that was skipped has changed, and when it is damaged. It holds
a copy of pictures that are embedded in rows; those in tar shards stay there. It may be deleted at any time. What another user put
there is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa

from zreward.common.bounded import read_json
from zreward.common.errors import InputError
from zreward.common.files import atomic_folder, disk_errors, remove_folder, write_json
from zreward.common.temporary import waiting_lock
from zreward.common.text_files import MAX_BYTES
from zreward.common.version import __version__
from zreward.data.bad_lines import BadLine
from zreward.data.file_state import known_state, state_of
from zreward.data.images import ImageSource, checked_digests
from zreward.data.packed import PackedImage
from zreward.data.reading import Reading, read_records
from zreward.data.record import Record, check_ratings
from zreward.data.record_table import Records, RecordTable, Seen, write_table
from zreward.data.sources import Source
from zreward.rubric import Rubric

_TABLE, _FACTS = "records.arrow", "facts.json"
_MOST_RATINGS = 10_000  # distinct ones that are kept
_THREADS, _ASKED = 16, 4096  # a file's state may come over a network


def open_records(
    source: str | os.PathLike[str] | Source,
    rubric: Rubric | None = None,
    skip_bad: bool = False,
    split: str | None = None,
    progress: bool = False,
) -> Records:
    """The records of a source, each made when it is asked for: memory does not grow with it.

    The first call checks every line and decodes every picture, as `load_records` does, and keeps what it found in the cache
    folder. Later calls open no picture again unless a file has changed. Processes of one machine check once, one for all.

    Args:
        source: path of a .jsonl or .parquet file, or any other name of `zreward.data.sources`; or a `Source`. Image paths are
            relative to the file.
        rubric: refuse dimensions it does not have and scores off its scale.
        skip_bad: skip bad lines and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        split: keep only records of this split; images of the others are not checked.
        progress: show a progress bar.

    Returns:
        A sequence of records, in the order of the source.

    Raises:
        InputError: as `load_records`; a full disk.
    """
    reading = Reading(source, _seen, rubric, skip_bad, split, progress)
    with _home_of(reading) as home:
        shared, own = (home / _name(one) for one in (_without_conditions(reading), reading))
        found = _stored(shared, reading) or (_stored(own, reading) if own != shared else None)
        if found is None:
            _remove_orphans(home)
            with atomic_folder(own) as temporary:
                all_good = _write(temporary, reading)
            if all_good and own != shared:  # what any rubric that its ratings fit would find
                remove_folder(shared)
                own = own.rename(shared)
            found = RecordTable(own / _TABLE).whole
    return found


def is_to_check(reading: Reading[Any]) -> bool:
    """Whether `open_records` would check every line and keep what it finds: nothing is kept of the files as they are now."""
    home = _home()
    if home is None:
        return False
    try:
        home.mkdir(parents=True, exist_ok=True)
        now = _state(reading)
    except (OSError, InputError):
        return False
    for one in (_without_conditions(reading), reading):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if _facts(home / _name(one) / _FACTS)["state"] == now:
                return False
    return os.access(home, os.W_OK | os.X_OK)


def _seen(record: Record) -> Sequence[Seen]:
    return [_seen_picture(picture) for picture in record.pictures]


def _seen_picture(image: ImageSource) -> Seen:
    assert isinstance(image, str | bytes | PackedImage), "a source holds paths or encoded pictures"
    path = image.path if isinstance(image, PackedImage) else image
    state = known_state(path) if isinstance(path, str) else None  # before it is read
    return Seen(*checked_digests(image), state)


@contextmanager
def _home_of(reading: Reading[Any]) -> Iterator[Path]:
    """The folder of tables, these records' held alone. Where it cannot be written to, one that goes away with the block."""
    shared, own = _name(_without_conditions(reading)), _name(reading)
    with ExitStack() as held:
        home = _home()
        try:
            if home is None:
                raise PermissionError
            home.mkdir(parents=True, exist_ok=True)
            held.enter_context(waiting_lock(home / f"{shared}.lock"))
            if not (os.access(home, os.W_OK | os.X_OK) and _is_ours(home / shared) and _is_ours(home / own)):
                raise PermissionError
        except OSError:
            home = Path(held.enter_context(tempfile.TemporaryDirectory()))
        yield home


def _home() -> Path | None:
    """None for a user without a home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "zreward" / "records"
    except RuntimeError:
        return None


def _is_ours(folder: Path) -> bool:
    """Whether it is not there yet, or this user made it; links are not followed."""
    try:
        return folder.lstat().st_uid == _user()
    except FileNotFoundError:
        return True


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # Windows: files have no such owner, 0 there


def _name(reading: Reading[Any]) -> str:
    """Of a table's folder."""
    return hashlib.sha256(json.dumps(_options(reading)).encode()).hexdigest()[:16]


def _without_conditions(reading: Reading[Any]) -> Reading[Any]:
    """The same without what makes a line a bad one: where no line is, the table is the same."""
    return replace(reading, rubric=None, skip_bad=False)


def _options(reading: Reading[Any]) -> list[Any]:
    """What a table depends on beside the contents of files; and whose it is, where users share a cache folder."""
    rubric = reading.rubric.fingerprint() if reading.rubric is not None else None
    source = _source(reading)
    fields = [source.fields.prompt, source.fields.image] if source.fields.are_named else []
    path = os.path.abspath(reading.name)
    return [__version__, PIL.__version__, path, reading.name, rubric, reading.skip_bad, reading.split, _user(), *fields]


def _source(reading: Reading[Any]) -> Source:
    assert reading.source is not None, "a data set in memory is not kept"
    return reading.source


def _state(reading: Reading[Any]) -> Any:
    """Of the source's files, as JSON gives it back."""
    now = _source(reading).state(state_of)
    return list(now) if isinstance(now, tuple) else now


def _write(folder: Path, reading: Reading[Sequence[Seen]]) -> bool:
    """Whether all lines are good."""
    source, ratings = _source(reading), _Ratings()
    state, bad = source.state(known_state), reading.bad_lines()
    reading = replace(reading, note=ratings.add)
    with disk_errors(folder, "; free disk space, or name another cache folder in XDG_CACHE_HOME"):
        write_table(read_records(reading, bad), folder / _TABLE)
    lines = [[*line, known_state(line.image) if line.image else None] for line in bad.lines]
    table = _table_state(folder / _TABLE)
    home = None if source.is_hub else os.path.abspath(next(iter(source.shards()), reading.name))
    facts = {"file": home, "state": state, "good": bad.good, "bad": lines, "table": table}
    write_json(folder / _FACTS, facts | {"ratings": ratings.found})
    return not lines


def _stored(folder: Path, reading: Reading[Any]) -> Records | None:
    """What an earlier call left, unless something has changed since. Its skipped lines are reported again."""
    try:
        facts, records = _facts(folder / _FACTS), RecordTable(folder / _TABLE).whole
        if reading.rubric is not None and not _fit(facts["ratings"], reading.rubric):
            return None
        good, is_whole = facts["good"], facts["table"] == _table_state(folder / _TABLE)
        lines = [(BadLine(*line[:5]), line[5]) for line in facts["bad"]]
        files = [(line.image, state) for line, state in lines if line.image]
        changed = [path for path, state in files if state_of(path) != (None if state is None else tuple(state))]
        changed += [reading.name] * (facts["state"] != _state(reading))
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError):
        return None
    if changed or not is_whole or not _unchanged(records):
        return None
    bad = reading.bad_lines()
    for line, _ in lines:
        bad.add(line)
    bad.finish(good)
    return records


class _Ratings:
    """The distinct ratings of all lines, by dimension, as far as they are few: whether they fit a rubric is seen at once."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] | None = {}
        self._known: set[tuple[str, float]] = set()

    def add(self, record: Record) -> None:
        if self.found is None:
            return
        for name in record.scores:
            ratings = self.found.setdefault(name, [])
            for rating in record.ratings(name):
                if (name, rating) not in self._known:
                    self._known.add((name, rating))
                    ratings.append(rating)
        if len(self._known) > _MOST_RATINGS:
            self.found = None


def _fit(ratings: dict[str, list[float]] | None, rubric: Rubric) -> bool:
    """Whether no rating is off the scale, or of a dimension that the rubric lacks; not where they were too many to keep."""
    if ratings is None:
        return False
    try:
        check_ratings(ratings, rubric)
    except InputError:
        return False
    return True


def _facts(file: Path) -> dict[str, Any]:
    return read_json(file, MAX_BYTES)


def _table_state(file: Path) -> list[int]:
    """Its size, date and inode: what stays when its folder gets its name, and changes when it is written to."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _remove_orphans(home: Path) -> None:
    """Remove what is kept of data files that are gone."""
    for facts in home.glob(f"*/{_FACTS}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if not os.path.lexists(_facts(facts)["file"]):
                remove_folder(facts.parent)


def _unchanged(records: Records) -> bool:
    """Whether every picture's file is in the state in which it was checked."""
    files = records.picture_files()
    with ThreadPoolExecutor(_THREADS) as threads:
        while part := list(islice(files, _ASKED)):
            if list(threads.map(state_of, (path for path, _ in part))) != [state for _, state in part]:
                return False
    return True
