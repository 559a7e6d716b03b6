"""Work that several jobs share: each makes shards in a folder of its own, and a merge puts them together by name.

A job's folder is job-0002-of-0004 below the result's. No two jobs write in one place: nothing depends on locks over a network,
and jobs may run on any machines, as long as their folders come together at the end. Shard k is made by job k modulo the number of
jobs. One that is whole in another job's folder is not made again, so the number of jobs may change after an interruption; where
two jobs made the same shard, the merge takes one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.files import remove_folder
from zreward.common.runs import RunDirectory, refuse_differences, say
from zreward.common.shards import MANIFEST, Facts, Shards, damage, read_lines, read_manifest, stored_manifest

_FOLDER = re.compile(r"job-\d{4,}-of-(\d{4,})")
_MOST = 9999
_MOST_SHARDS = 10**7
_PATIENCE = timedelta(days=30)  # a rank may have the larger pictures; one that dies ends the wait at once
Found = tuple[Path, Mapping[str, str]]
"""A shard's file, and its line."""


@dataclass(frozen=True)
class Job:
    """One of `count` jobs; they are numbered from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Job:
        """A job from text such as "2/8"."""
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"--shard {text!r}: expected I/N, from 1/N to N/N with N at most {_MOST:,}, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_rank(cls) -> Job | None:
        """The job of this process where torchrun or `accelerate launch` started several, else None."""
        try:
            rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        except (KeyError, ValueError):
            return None
        return cls(rank + 1, count) if count > 1 else None

    @property
    def folder(self) -> str:
        return f"job-{self.number:04d}-of-{self.count:04d}"

    def makes(self, shard: int) -> bool:
        return shard % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class JobShards(Shards):
    """The shards of one job below `home`. Shards that are whole in another job's folder count as kept."""

    def __init__(self, home: Path, job: Job, facts: Facts, notes: Facts, what: str, advice: str) -> None:
        super().__init__(home / job.folder, facts, notes, lambda: facts, what, advice)
        self.others = {}
        for folder in job_folders(home):
            if folder != self.folder:
                stored = stored_manifest(folder, facts, lambda: facts, what, advice)
                self.others[folder] = read_lines(folder, stored or {})

    def keep(self, name: str, made_from: str) -> bool:
        found = ((folder / name, lines[name]) for folder, lines in self.others.items() if name in lines)
        if any(line["made_from"] == made_from and not damage(file, line) for file, line in found):
            return True
        return super().keep(name, made_from)


def job_folders(home: Path) -> list[Path]:
    """The jobs' folders below `home`, by name."""
    return sorted(folder for folder in home.glob("job-*") if _FOLDER.fullmatch(folder.name))


def refuse_jobs(home: Path, out: Path) -> None:
    """InputError where jobs have begun what one process is asked for."""
    folders = job_folders(home)
    if folders:
        raise InputError(
            f"{out} was begun by several jobs ({folders[0].name}); finish them with --shard and join them with "
            f"`zreward merge {out}`, or choose another --out"
        )


def gather(
    folders: Sequence[Path], notes: Sequence[str], what: str
) -> tuple[list[dict[str, Any]], dict[str, list[Found]]]:
    """What is in the folders of jobs that belong together.

    Args:
        folders: of jobs.
        notes: keys of a manifest that may differ.
        what: what they hold, for messages.

    Returns:
        Their manifests, and for every shard's name where it is, with its line.

    Raises:
        InputError: no folders, one that holds no shards of a job, or one of jobs with other inputs or options.
    """
    if not folders:
        raise InputError(
            f"there are no {what} of jobs to merge; run the jobs with --shard first, or name their folders"
        )
    manifests = [_manifest(folder) for folder in folders]
    places: dict[str, list[Found]] = {}
    for folder, manifest in zip(folders, manifests, strict=True):
        then, now = ({key: one[key] for key in one if key not in notes} for one in (manifests[0], manifest))
        refuse_differences(f"{folders[0]} and {folder} hold other {what}", then, now, "merge jobs of the same inputs")
        for name, line in read_lines(folder, manifest).items():
            places.setdefault(name, []).append((folder / name, line))
    return manifests, places


def checked_count(value: Any, folder: Path) -> int:
    """How many shards a job's manifest names. InputError for what is none, or would fill the memory."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_SHARDS:
        raise InputError(
            f"{folder / MANIFEST} names {shown(value)} shards, expected 1 to {_MOST_SHARDS:,}; it is damaged: delete {folder} "
            "and run its job again"
        )
    return value


def choose(found: Iterable[Found]) -> Found | None:
    """One of several jobs' files of the same shard that is whole, or None. InputError where they were made from other rows."""
    chosen: Found | None = None
    for file, line in found:
        reason = damage(file, line)
        if reason:
            say(f"{file} is {reason}: it is left out")
        elif chosen is None:
            chosen = file, line
        elif line["made_from"] != chosen[1]["made_from"]:
            raise InputError(
                f"{chosen[0]} and {file} were made from other rows or pictures; delete the older one's folder, and run its "
                "job again"
            )
    return chosen


def refuse_missing(missing: Sequence[int], total: int, folders: Sequence[Path]) -> None:
    """InputError naming how many shards are not there, and which jobs would make them."""
    if not missing:
        return
    counts = {int(found[1]) for found in map(_FOLDER.fullmatch, (folder.name for folder in folders)) if found}
    jobs = ""
    if len(counts) == 1:
        (count,) = counts
        numbers = sorted({number % count + 1 for number in missing})
        shown = ", ".join(f"{number}/{count}" for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
        jobs = f" (--shard {shown})"
    raise InputError(
        f"{len(missing):,} of {total:,} shards are not there or damaged; run the unfinished jobs{jobs} again, then merge"
    )


def remove_jobs(home: Path) -> None:
    """Remove the folders of jobs below `home`, whose shards are merged."""
    for folder in job_folders(home):
        with RunDirectory(folder).hold():
            remove_folder(folder)


def join() -> None:
    """Let the processes of this launch wait for one another, unless they can already."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)


def is_first_of_all(job: Job) -> bool:
    """Wait until every rank of this launch is here; True in the first one, which goes on alone.

    torch's error where another rank ended before.
    """
    import torch.distributed as dist

    join()
    dist.barrier()
    return job.number == 1


def own_part(job: Job | None, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The items with their numbers that a job makes; all of them without a job."""
    return ((number, item) for number, item in enumerate(items) if job is None or job.makes(number))


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(f"{folder}: no {MANIFEST}; expected the folder of a job, such as OUT/job-0001-of-0002")
    return read_manifest(file, f"delete {folder} and run its job again")
