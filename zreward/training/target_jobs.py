"""Targets that several jobs make together (`zreward.common.jobs`): a job's part, and the merge into one folder.

A shard's traces depend on the seed and the shard's number, not on the job: the merged folder is that of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.jobs import Job, JobShards, checked_count, choose, gather, job_folders, refuse_missing, remove_jobs
from zreward.common.runs import RunDirectory, say
from zreward.common.shards import LINES, MANIFEST, Shards, stored_manifest
from zreward.data import Record, open_records
from zreward.data.pool_check import PoolCheck
from zreward.data.sources import Source
from zreward.models.reward_model import RewardModel
from zreward.models.teacher import Teacher
from zreward.training.targets import (
    ADVICE,
    OTHER_TARGETS,
    LabelOptions,
    all_of,
    check_teacher,
    facts_of,
    label_all,
    labelled_early,
    older_facts,
    parts_of,
)

_NOTES = ("schema", "teacher")


def label_job(
    model: Teacher,
    teacher: str,
    records: Sequence[Record] | PoolCheck,
    out: str | Path,
    options: LabelOptions,
    job: Job,
) -> Path:
    """The part of `label` that is one job's, into a folder below `out`. Whole shards are kept, other jobs' included.

    Args:
        model: the teacher.
        teacher: its name, for the manifest and messages.
        records: all records, the same for every job; or their `PoolCheck`, as in `label`.
        out: the folder that `merge_targets` will fill.
        options: the same for every job.
        job: which part is made.

    Returns:
        The job's folder; `out` where it is finished already.

    Raises:
        InputError: as `label`; an `out` that one process has begun.
    """
    out = Path(out)
    names = check_teacher(model, teacher, options)
    if (out / MANIFEST).exists() or any(out.glob("*.parquet")):
        records = all_of(records)
        older = partial(older_facts, model, names, records, options)
        stored = stored_manifest(out, facts_of(model, names, records, options), older, OTHER_TARGETS, ADVICE)
        if stored is not None and "shards" in stored:
            say(f"{out} is finished: nothing to do")
            return out
        if stored is not None and not job_folders(out):
            raise InputError(f"{out} was begun by one process; continue it without --shard, or {ADVICE}")
    folder = out / job.folder
    with RunDirectory(folder).hold(), labelled_early(model, records, folder, names, options, job) as early:
        records = all_of(records)
        facts = facts_of(model, names, records, options)
        shards = JobShards(out, job, facts, {"teacher": teacher}, OTHER_TARGETS, ADVICE)
        label_all(model, records, shards, names, options, early, job)
    return folder


def label_worker(
    teacher: str,
    place: str,
    device: str | None,
    data: Source,
    split: str | None,
    skip_bad: bool,
    out: Path,
    options: LabelOptions,
) -> Callable[[Job], Path]:
    """`label_job` for a process that makes several jobs: the teacher (from `place`) and the records are loaded once."""
    model = RewardModel.from_pretrained(place, device=device)
    records = open_records(data, skip_bad=skip_bad, split=split)
    return partial(label_job, model, teacher, records, out, options)


def merge_targets(out: str | Path, folders: Sequence[Path] = ()) -> Path:
    """Join the targets of jobs into `out`: the files that one process would have written. A merge that was cut off is repeated.

    Args:
        out: the folder that the jobs were given.
        folders: of jobs, where they are not below `out`; these stay as they are.

    Returns:
        `out`.

    Raises:
        InputError: missing shards, with the jobs that make them; jobs of other inputs or options; an `out` of something else.
    """
    out = Path(out)
    chosen = list(folders) or job_folders(out)
    if not chosen and (out / MANIFEST).exists():
        with RunDirectory(out).hold():  # removes what a kill left of them
            say(f"{out}: there are no jobs to merge")
        return out
    (manifest, *_), places = gather(chosen, _NOTES, "targets")
    facts = {key: value for key, value in manifest.items() if key not in _NOTES}
    try:
        options = LabelOptions(shard_size=facts["options"]["shard_size"])
        count = facts["count"]
        checked_count(count if isinstance(count, bool) else -(-count // options.shard_size), chosen[0])
        parts = parts_of(count, options)
    except (KeyError, TypeError):
        raise InputError(f"{chosen[0]}: it holds no targets; expected the folder of a `zreward label` job") from None
    with RunDirectory(out).hold():
        _refuse_other_files(out)
        stored = stored_manifest(out, facts, lambda: facts, OTHER_TARGETS, ADVICE)
        # Of a merge that a kill cut off behind that, only the jobs' folders are left.
        if stored is None or "shards" not in stored or (out / LINES).exists():
            found = [choose(places.get(name, [])) for name, _, _ in parts]
            refuse_missing([number for number, one in enumerate(found) if one is None], len(parts), chosen)
            shards = Shards(out, facts, {"teacher": manifest["teacher"]}, lambda: facts, OTHER_TARGETS, ADVICE)
            for whole, (name, _, made_from) in zip(found, parts, strict=True):
                if whole is not None and not shards.keep(name, made_from):
                    shards.take(whole[0], made_from)
            shards.finish()
        remove_jobs(out)
    return out


def _refuse_other_files(out: Path) -> None:
    if not (out / MANIFEST).exists() and set(out.iterdir()) - set(job_folders(out)):
        raise InputError(f"{out} is not empty and holds no {MANIFEST}; choose another folder for the targets")
