"""The mean of several teachers' targets: one student learns what an ensemble says.

Teachers may be seeds of one training, other models, or an endpoint; each has labelled the same records. Ours, not the paper's,
whose teacher is one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from zreward.common.errors import InputError, shown
from zreward.common.jobs import job_folders
from zreward.common.runs import RunDirectory, say
from zreward.common.shards import MANIFEST, Shards, read_lines
from zreward.training.targets import (
    DAMAGED,
    OTHER_TARGETS,
    LabelOptions,
    parts_of,
    refuse_other_files,
    shard_table,
    targets_manifest,
    whole_shards,
)

_SAME = ("records", "rubric", "count")
_SAME_OPTIONS = ("dimensions", "shard_size", "traces", "reasoning")
_PLACE = ["record", "prompt", "dimension"]
_ADVICE = "choose another folder to write, or delete this one to start over"
_MADE_FROM = "this shard of every folder"  # whose checksums are among the facts


def average_targets(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write the mean of several targets folders as a targets folder; all count alike. Complete shards are kept.

    `probs` and `mean` are means over the folders; `trace_probs` and `traces` hold all of them, in the order of `folders`. The
    two spreads are those of the mixture: `between_std` now has the teachers' disagreement too (law of total variance).

    Args:
        folders: two or more folders that `zreward label` finished.
        out: the folder to write; the same call continues an interrupted one.

    Returns:
        `out`.

    Raises:
        InputError: fewer than two folders; one that is unfinished or damaged; folders of other records, another rubric, other
            dimensions or other numbers of traces or of records a file; an `out` of something else.
    """
    paths, out = [Path(folder) for folder in folders], Path(out)
    if len({path.resolve() for path in paths}) != len(paths) or len(paths) < 2:
        raise InputError(f"average: {shown([str(path) for path in paths])}; expected two or more different folders")
    manifests = [_finished(path) for path in paths]
    facts = _facts(paths, manifests)
    whole = [whole_shards(path, manifest) for path, manifest in zip(paths, manifests, strict=True)]
    shards_of = list(zip(*whole, strict=True))
    for files in shards_of:
        _check(files)
    with RunDirectory(out).hold():
        refuse_other_files(out)
        teacher = "mean of " + ", ".join(str(manifest.get("teacher")) for manifest in manifests)
        shards = Shards(out, facts, {"teacher": teacher}, lambda: facts, OTHER_TARGETS, _ADVICE)
        for files in tqdm(shards_of, desc="averaging", unit="shard"):
            name = files[0].name
            if not shards.keep(name, _MADE_FROM):
                shards.add(name, _averaged(files), _MADE_FROM)
        if shards.is_finished:
            say(f"{out} is finished: nothing to do")
        else:
            shards.finish()
    return out


def _finished(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder."""
    file = folder / MANIFEST
    if not file.exists():
        jobs = "its jobs are not joined: run `zreward merge` first" if job_folders(folder) else f"no {MANIFEST}"
        raise InputError(f"{folder}: {jobs}; expected a folder that `zreward label` finished")
    manifest = targets_manifest(file)
    if "shards" not in manifest:
        raise InputError(f"{folder} is not finished; run `zreward label` to the end, or `zreward merge` for jobs")
    lines = read_lines(folder, manifest)
    try:
        options, count = LabelOptions(shard_size=manifest["options"]["shard_size"]), manifest["count"]
        expected = -(-count // options.shard_size)
    except (KeyError, TypeError):
        raise InputError(f"{file} is damaged; {DAMAGED}") from None
    if len(lines) != expected or set(lines) != {name for name, _, _ in parts_of(count, options)}:
        raise InputError(f"{file} names other shards than the {expected:,} of its {count:,} records; {DAMAGED}")
    return manifest


def _facts(paths: Sequence[Path], manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the mean depends on. InputError for folders that do not belong together."""

    def compared(manifest: dict[str, Any]) -> dict[str, Any]:
        options = {f"options.{key}": manifest["options"].get(key) for key in _SAME_OPTIONS}
        return {key: manifest.get(key) for key in _SAME} | options

    expected = compared(manifests[0])
    for path, manifest in zip(paths[1:], manifests[1:], strict=True):
        found = compared(manifest)
        different = [
            f"{key} {shown(found[key])} and {shown(expected[key])}" for key in found if found[key] != expected[key]
        ]
        if different:
            raise InputError(
                f"{path} and {paths[0]} do not go together: {', '.join(different)}; label the same records with the same options"
            )
    same = {key: manifests[0].get(key) for key in _SAME}
    options = {key: manifests[0]["options"].get(key) for key in _SAME_OPTIONS}
    if options["reasoning"]:
        options["traces"] = (options["traces"] or 1) * len(paths)
    lines = [read_lines(path, manifest) for path, manifest in zip(paths, manifests, strict=True)]
    return {
        "averaged": [{name: line["sha256"] for name, line in mine.items()} for mine in lines],
        "options": options,
        **same,
    }


def _check(files: Sequence[Path]) -> None:
    """InputError unless the same shard of each teacher has the same rows, with spreads."""
    for file in files:
        if "between_std" not in shard_table(file).column_names:
            raise InputError(
                f"{file} was written by version 0.1, which kept no spread of traces; label into a new folder"
            )
        if not shard_table(file, _PLACE).equals(shard_table(files[0], _PLACE)):
            raise InputError(f"{file} has other rows than {files[0]}; label the same records with both teachers")


def _averaged(files: Sequence[Path]) -> pa.Table:
    """One shard of the mean, from the same shard of each teacher."""
    tables = [shard_table(file).to_pylist() for file in files]
    try:
        made = [_mixture(rows) for rows in zip(*tables, strict=True)]
    except (KeyError, TypeError, ValueError) as error:  # a column is missing, or of another kind or length
        raise InputError(f"{', '.join(map(str, files))} cannot be averaged ({error}); {DAMAGED}") from None
    return pa.Table.from_pylist(made)


def _mixture(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One item's row of the mean over its teachers' rows."""

    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    means = np.array([row["mean"] for row in rows])
    probs_S = np.mean([row["probs"] for row in rows], axis=0)
    within = np.sqrt(np.mean([row["within_std"] ** 2 for row in rows]))
    between = np.sqrt(np.mean([row["between_std"] ** 2 for row in rows]) + means.var())
    if not np.isfinite([*probs_S, means.mean(), within, between]).all():
        raise ValueError(f"record {rows[0]['record']}, {rows[0]['dimension']}: NaN or infinity")
    shares = [row.get("bounded") for row in rows]
    return {
        **{key: rows[0][key] for key in _PLACE},
        "probs": probs_S.tolist(),
        "mean": float(means.mean()),
        "within_std": float(within),
        "between_std": float(between),
        "trace_probs": [probs for row in rows for probs in row["trace_probs"]],
        "traces": [trace for row in rows for trace in row["traces"]],
        "tokens": mean("tokens"),
        "truncated": mean("truncated"),
        **({} if all(share is None for share in shares) else {"bounded": float(np.mean([s or 0.0 for s in shares]))}),
    }
