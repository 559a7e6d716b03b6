"""What a dry run of `zreward score --data` checks: rows, pictures, dimensions, the model, and parts of an earlier call.

Nothing is written or scored. A small model is loaded as scoring would load it; of a larger one, or one that is not on this
machine, nothing is asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from zreward.common.jobs import Job, own_part
from zreward.common.shards import progress_of, stored_manifest
from zreward.data.sources import Source
from zreward.inference.bulk import (
    ADVICE,
    OTHER_SCORES,
    SHARD,
    check_finished,
    empty,
    facts_of,
    folder_of,
    older_facts,
    open_row,
    parts_folder,
    parts_of,
    refused,
)
from zreward.models.dry_checks import check_writable, is_small
from zreward.models.reward_model import RewardModel


def check_inputs(
    name: str,
    source: Source,
    out: Path,
    dimensions: Sequence[str] | None = None,
    skip_bad: bool = False,
    job: Job | None = None,
) -> list[str]:
    """Sentences about what was checked. Raises InputError for rows and files that scoring would refuse."""
    check_writable(out.absolute().parent, "--out")
    model = RewardModel.from_pretrained(name, device="cpu") if is_small(name) else None
    facts: dict = {"skip_bad": skip_bad, "shard": SHARD}
    older = facts
    if model:
        names = model.check_dimensions(dimensions)
        facts, older = facts_of(model, names, skip_bad), older_facts(model, names, source, skip_bad)
        told = f"model {name}: loads, and scores {', '.join(names)}"
    else:
        told = f"model {name}: not loaded: large, or not on this machine; its rubric was not checked"
    total, bad, shards = _read(source, skip_bad)
    left_out = f", {bad:,} of them bad, which get no score" if bad else ""
    lines = [f"{source}: {total:,} rows{left_out}; every picture opened", told]
    if out.exists():
        check_finished(out, facts, list(shards.values()))
        return [*lines, f"{out}: these scores are there and whole: nothing to do"]
    parts = parts_folder(out) if job is None else parts_folder(out) / job.folder
    stored = stored_manifest(parts, facts, lambda: older, OTHER_SCORES, ADVICE) if parts.is_dir() else None
    if stored is None:
        return [*lines, f"{out}: free, and can be written"]
    return [
        *lines,
        progress_of(parts, stored, {name: made_from for _, (name, made_from) in own_part(job, shards.items())}),
    ]


def _read(source: Source, skip_bad: bool) -> tuple[int, int, dict[str, str]]:
    """How many rows, how many bad ones, and every shard with what it is made from."""
    total, bad, shards = 0, 0, {}
    folder = folder_of(source)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for name, rows, made_from in parts_of(source, folder):
            shards[name] = made_from
            for row, _, _, error in threads.map(partial(open_row, folder=folder), rows):
                if error is not None and not skip_bad:
                    raise refused(row, error)
                total, bad = total + 1, bad + (error is not None)
    if not total:
        raise empty(source)
    return total, bad, shards
