"""Scores of a data set that several jobs make together (`zreward.common.jobs`): a job's part, and the merge into one file.

Every job reads all rows, but only the pictures of its own shards. What the rows are is recorded, so that parts of a data set that
changed meanwhile are not joined.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from zreward.common.errors import InputError
from zreward.common.jobs import (
    Job,
    JobShards,
    checked_count,
    choose,
    gather,
    job_folders,
    own_part,
    refuse_missing,
    remove_jobs,
)
from zreward.common.runs import RunDirectory, refuse_differences, say
from zreward.common.shards import MANIFEST
from zreward.data.packed import PackedImage
from zreward.data.sources import SourceRow
from zreward.inference.bulk import (
    ADVICE,
    OTHER_SCORES,
    check_finished,
    check_out,
    chunks_of,
    digested,
    empty,
    facts_of,
    folder_of,
    join,
    name_of,
    parts_folder,
    parts_of,
    score_parts,
)
from zreward.models.reward_model import RewardModel

_ROWS = "rows"  # key of a job's manifest: how many shards the data set has, and a digest of its rows
_NOTES = ("schema", "source", _ROWS)


def score_job(
    model: RewardModel,
    source: Any,
    out: str | Path,
    job: Job,
    dimensions: Sequence[str] | None = None,
    batch_size: int | None = None,
    skip_bad: bool = False,
) -> int:
    """The part of `score_data` that is one job's, into a folder below OUT.parts. Whole shards are kept, other jobs' included.

    Args:
        model: the reward model.
        source: all records, the same for every job.
        out: the .parquet file that `merge_scores` will write.
        job: which part is made.
        dimensions: as in `score_data`.
        batch_size: as in `score_data`.
        skip_bad: as in `score_data`.

    Returns:
        The number of the job's rows.

    Raises:
        InputError: as `score_data`; an `out` that one process has begun.
    """
    out, names = check_out(out), model.check_dimensions(dimensions)
    facts, folder, home = facts_of(model, names, skip_bad), folder_of(source), parts_folder(out)
    if out.exists():
        say(f"{out} is finished: nothing to do")
        return check_finished(out, facts, [made_from for _, _, made_from in parts_of(source, folder)])
    if (home / MANIFEST).exists():
        raise InputError(f"{out} was begun by one process; continue it without --shard, or choose another --out")
    rows = _Rows()
    with RunDirectory(home / job.folder).hold():
        shards = JobShards(home, job, facts, {"source": str(source)}, OTHER_SCORES, ADVICE)
        parts = digested(own_part(job, rows.watch(chunks_of(source))), folder)
        total, _ = score_parts(model, shards, parts, folder, names, batch_size, skip_bad, f"scoring {job}")
        if not rows.shards:
            shutil.rmtree(shards.folder)
            raise empty(source)
        shards.note(_ROWS, rows.facts)
    return total


def score_worker(
    model: str,
    device: str | None,
    source: Any,
    out: str | Path,
    dimensions: Sequence[str] | None,
    batch_size: int | None,
    skip_bad: bool,
) -> Callable[[Job], int]:
    """`score_job` for a process that makes several jobs: the model is loaded once."""
    loaded = RewardModel.from_pretrained(model, device=device)
    return partial(score_job, loaded, source, out, dimensions=dimensions, batch_size=batch_size, skip_bad=skip_bad)


def merge_scores(out: str | Path, folders: Sequence[Path] = ()) -> int:
    """Join the scores of jobs into the file that one process would have written. A merge that was cut off is repeated.

    Args:
        out: the .parquet file that the jobs were given.
        folders: of jobs, where they are not in OUT.parts; these stay as they are.

    Returns:
        The number of rows.

    Raises:
        InputError: missing shards, with the jobs that make them; jobs of other rows, models or options; other scores in `out`.
    """
    out = check_out(out)
    home = parts_folder(out)
    chosen = list(folders) or job_folders(home)
    if not chosen and out.exists():
        say(f"{out}: there are no jobs to merge")
        rows = pq.read_metadata(out).num_rows
        _remove(home)  # what is left of them
        return rows
    manifests, places = gather(chosen, _NOTES, "scores")
    facts = {key: value for key, value in manifests[0].items() if key not in _NOTES}
    if "dimensions" not in facts:
        raise InputError(f"{chosen[0]}: it holds no scores; expected the folder of a `zreward score --data` job")
    total = _shards_in_all(chosen, manifests)
    with RunDirectory(home).hold():
        found = [choose(places.get(name_of(number), [])) for number in range(total)]
        parts = [one for one in found if one is not None]
        if not out.exists():
            refuse_missing([number for number, one in enumerate(found) if one is None], total, chosen)
            join(parts, out, facts)
        # An earlier merge may have removed some of the folders.
        rows = check_finished(out, facts, [line["made_from"] for _, line in parts] if len(parts) == total else None)
    _remove(home)
    return rows


def _remove(home: Path) -> None:
    """The jobs' folders, and the folder that held them, unless something else is in it."""
    with RunDirectory(home).hold():
        remove_jobs(home)
    with suppress(OSError):  # not there, or not empty
        home.rmdir()


def _shards_in_all(folders: Sequence[Path], manifests: Sequence[dict[str, Any]]) -> int:
    """How many shards the data set has. InputError where jobs read other rows, or none has read them to the end."""
    read = [(folder, one[_ROWS]) for folder, one in zip(folders, manifests, strict=True) if _ROWS in one]
    if not read:
        raise InputError("no job has read all rows yet; run the unfinished jobs again, then merge")
    for folder, rows in read:
        what = f"{read[0][0]} and {folder} scored data sets of other rows"
        refuse_differences(what, {_ROWS: read[0][1]}, {_ROWS: rows}, "delete the older one, and run its job again")
    folder, rows = read[0]
    return checked_count(rows.get("shards") if isinstance(rows, dict) else rows, folder)


class _Rows:
    """Counts the shards of a data set as they are read, and sums up which rows they hold."""

    def __init__(self) -> None:
        self.shards, self._digest = 0, hashlib.sha256()

    def watch(self, chunks: Iterator[list[SourceRow]]) -> Iterator[list[SourceRow]]:
        for chunk in chunks:
            self.shards += 1
            for row in chunk:
                self._digest.update(json.dumps(_identity(row)).encode() + b"\n")
            yield chunk

    @property
    def facts(self) -> dict[str, Any]:
        return {"shards": self.shards, "digest": self._digest.hexdigest()[:16]}


def _identity(row: SourceRow) -> list[Any]:
    """What a row is, without reading its picture."""
    if row.data is None:
        return [row.number, row.error]
    values = [row.data.get(key) for key in ("id", "prompt", "image")]
    plain = [str(value) if isinstance(value, PackedImage) else value for value in values]
    return [row.number, *(value if isinstance(value, str | int | float) else None for value in plain)]
