"""Records that stay on disk, checked once: rows and what was found of their pictures, in the user's cache folder.

    ~/.cache/zreward/records/<digest of the file's path and the options>/      XDG_CACHE_HOME moves it

It is made anew when the data file, one of its pictures, or a line that was skipped has changed. It holds a copy of pictures
that are embedded in the data file. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa

from zreward.common.files import atomic_folder, disk_errors, remove_folder, write_json
from zreward.common.temporary import waiting_lock
from zreward.common.version import __version__
from zreward.data.bad_lines import BadLine
from zreward.data.file_state import known_state, state_of
from zreward.data.images import checked_digests
from zreward.data.reading import Reading, read_records
from zreward.data.record import Record
from zreward.data.record_table import Records, RecordTable, Seen, write_table
from zreward.rubric import Rubric

_TABLE, _FACTS = "records.arrow", "facts.json"
_THREADS, _ASKED = 16, 4096  # a file's state may come over a network


def open_records(
    source: str | os.PathLike[str],
    rubric: Rubric | None = None,
    skip_bad: bool = False,
    split: str | None = None,
    progress: bool = False,
) -> Records:
    """The records of a .jsonl or .parquet file, each made when it is asked for: memory does not grow with the file.

    The first call checks every line and decodes every picture, as `load_records` does, and keeps what it found in the cache
    folder. Later calls open no picture again unless a file has changed. Processes of one machine check once, one for all.

    Args:
        source: path of the file. Image paths are relative to it.
        rubric: refuse dimensions it does not have and scores off its scale.
        skip_bad: skip bad lines and write them to FILE.skipped.jsonl; otherwise they are one InputError.
        split: keep only records of this split; images of the others are not checked.
        progress: show a progress bar.

    Returns:
        A sequence of records, in the order of the file.

    Raises:
        InputError: as `load_records`; a full disk.
    """
    reading = Reading(source, _seen, rubric, skip_bad, split, progress)
    with _place(reading) as folder:
        found = _stored(folder, reading)
        if found is None:
            _remove_orphans(folder.parent)
            with atomic_folder(folder) as temporary:
                _write(temporary, reading)
            found = RecordTable(folder / _TABLE).whole
    return found


def _seen(record: Record) -> Seen:
    assert isinstance(record.image, str | bytes), "a file holds paths or encoded pictures"
    state = known_state(record.image) if isinstance(record.image, str) else None  # before it is read
    return Seen(*checked_digests(record.image), state)


@contextmanager
def _place(reading: Reading[Any]) -> Iterator[Path]:
    """The folder of these records, held alone. Where the cache cannot be written to, one that goes away with the block."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zreward" / "records"
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(json.dumps(_options(reading)).encode()).hexdigest()[:16]
    if os.access(home, os.W_OK | os.X_OK):
        with waiting_lock(home / f"{name}.lock"):
            yield home / name
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / name


def _options(reading: Reading[Any]) -> list[Any]:
    """What a table depends on beside the contents of files."""
    rubric = reading.rubric.fingerprint() if reading.rubric is not None else None
    path = os.path.abspath(reading.name)
    return [__version__, PIL.__version__, path, reading.name, rubric, reading.skip_bad, reading.split]


def _write(folder: Path, reading: Reading[Seen]) -> None:
    source, bad = known_state(reading.name), reading.bad_lines()
    with disk_errors(folder, "; free disk space, or name another cache folder in XDG_CACHE_HOME"):
        write_table(read_records(reading, bad), folder / _TABLE)
    lines = [[*line, known_state(line.image) if line.image else None] for line in bad.lines]
    facts = {"file": os.path.abspath(reading.name), "state": source, "good": bad.good, "bad": lines}
    write_json(folder / _FACTS, facts)


def _stored(folder: Path, reading: Reading[Any]) -> Records | None:
    """What an earlier call left, unless something has changed since. Its skipped lines are reported again."""
    try:
        facts, records = _facts(folder / _FACTS), RecordTable(folder / _TABLE).whole
        lines = [(BadLine(*line[:5]), line[5]) for line in facts["bad"]]
        files = [(reading.name, facts["state"]), *((line.image, state) for line, state in lines if line.image)]
        changed = [path for path, state in files if state_of(path) != (None if state is None else tuple(state))]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    if changed or not _unchanged(records):
        return None
    bad = reading.bad_lines()
    for line, _ in lines:
        bad.add(line)
    bad.finish(facts["good"])
    return records


def _facts(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


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
