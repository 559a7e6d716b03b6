"""What a dry run of `zreward label` checks: records, pictures, dimensions, the teacher, and shards of an earlier call.

No trace is sampled, and nothing is written but the list of bad lines that --skip-bad asks for. A small teacher is loaded as
labelling would load it; of a larger one, or one that is not on this machine, nothing is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zreward.common.jobs import Job, own_part
from zreward.common.shards import progress_of, stored_manifest
from zreward.common.temporary import holds_nothing
from zreward.data import open_records
from zreward.data.sources import Source
from zreward.models.dry_checks import check_writable, is_small
from zreward.models.reward_model import RewardModel
from zreward.models.teacher import Teacher
from zreward.training.targets import (
    ADVICE,
    OTHER_TARGETS,
    LabelOptions,
    check_teacher,
    facts_of,
    older_facts,
    parts_of,
    refuse_other_files,
)


def check_inputs(
    teacher: str,
    data: Source,
    out: Path,
    options: LabelOptions,
    split: str | None = None,
    skip_bad: bool = False,
    job: Job | None = None,
    model: Teacher | None = None,
) -> list[str]:
    """Sentences about what was checked. Raises the InputError that labelling would start with.

    Args:
        teacher: its name.
        data: the records.
        out: the folder to write.
        options: how to label.
        split: as in `load_records`.
        skip_bad: as in `load_records`.
        job: the part that one of several jobs makes.
        model: the teacher, where it was connected to already.
    """
    if model is None:
        model = RewardModel.from_pretrained(teacher, device="cpu") if is_small(teacher) else None
    names = check_teacher(model, teacher, options) if model else options.dimensions
    records = open_records(data, skip_bad=skip_bad, split=split)
    facts: dict[str, Any] = {"count": len(records)}
    older = facts
    told = f"teacher {teacher}: not loaded: large, or not on this machine; its rubric was not checked"
    if model and names:
        facts = facts_of(model, names, records, options)
        older = older_facts(model, names, records, options)
        told = f"teacher {teacher}: loads, and labels {', '.join(names)}"
    dimensions = f" on {len(names)} dimensions" if names else ""
    how = f"{options.traces} traces for each" if options.reasoning else "without reasoning"
    return [
        f"{data}: {len(records):,} records, every picture opened",
        told,
        f"to label: {len(records):,} images{dimensions}, {how}",
        _folder(out, facts, older, options, job),
    ]


def _folder(
    out: Path, facts: dict[str, Any], older: dict[str, Any], options: LabelOptions, job: Job | None = None
) -> str:
    check_writable(out, "--out")
    folder = out if job is None else out / job.folder
    if not folder.exists() or holds_nothing(folder):
        return f"{folder}: free, and can be written"
    refuse_other_files(folder)
    stored = stored_manifest(folder, facts, lambda: older, OTHER_TARGETS, ADVICE)
    assert stored is not None, "a folder that is not empty has a manifest"
    parts = own_part(job, parts_of(facts["count"], options))
    return progress_of(folder, stored, {name: made_from for _, (name, _, made_from) in parts})
