"""The teacher's targets: q_T(s | p, I, d) for every (record, dimension), in Parquet shards.

A shard is written whole; its random state depends on the seed and its number only. So a labelling run that was killed and
started again neither loses nor repeats an item, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from zreward.common.errors import InputError, check_counts, counted
from zreward.common.jobs import Job, own_part, refuse_jobs
from zreward.common.runs import RunDirectory, say
from zreward.common.shards import MANIFEST, Shards, damage, read_lines, read_manifest
from zreward.common.temporary import holds_nothing
from zreward.data import Record
from zreward.data.fingerprint import records_fingerprint
from zreward.data.images import ImageSource, encoded
from zreward.data.packed import PackedImage
from zreward.data.pool_check import PoolCheck
from zreward.distribution import split_spread
from zreward.models.fingerprint import weights_fingerprint_1
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel
from zreward.models.teacher import ReportedDistribution, Teacher, check_takes
from zreward.prompting import Texts, judged_as
from zreward.training.annotated import annotated_items
from zreward.training.direct import DirectItem
from zreward.training.distilled import Chains, DistilledItems, ExplainedItems
from zreward.training.early_shards import EarlyShard, early_shards
from zreward.training.pictures import PicturesOf
from zreward.training.recipe import DataRecipe

OTHER_TARGETS = "targets made with other inputs or other options"
ADVICE = "choose another folder (--out), or delete this one to start over"
WHAT = "labelling by an endpoint or by vLLM"
DAMAGED = "delete the folder and run `zreward label` again"


@dataclass(frozen=True)
class LabelOptions:
    """How a teacher labels."""

    traces: int = 1  # K: distributions of K traces are averaged (K = 1 is the paper)
    dimensions: tuple[str, ...] | None = None  # default: all of the rubric's
    temperature: float = 1.0  # of sampling, 0 or more; 0 is greedy
    reasoning: bool = True  # false: the teacher answers directly
    seed: int = 0  # of sampling
    shard_size: int = 256  # records per file
    batch_size: int = 16  # images at a time

    def __post_init__(self) -> None:
        check_counts(traces=self.traces, shard_size=self.shard_size, batch_size=self.batch_size)
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; expected 0 (greedy) or more")


def label(
    model: Teacher, teacher: str, records: Sequence[Record] | PoolCheck, out: str | Path, options: LabelOptions
) -> Path:
    """Score records with a teacher into Parquet shards, the targets of a student. Complete shards are kept.

    Args:
        model: the teacher.
        teacher: its name, for the manifest and messages.
        records: what to label; ratings are not read. While a `PoolCheck` is at work its first records are labelled already.
        out: the folder to write; the same call continues an interrupted one.
        options: traces, temperature, seed, sizes; the batch size may change when a call is continued.

    Returns:
        `out`.

    Raises:
        InputError: `out` holds something else, or targets of another teacher, data set or options; a full disk (complete
            shards are kept).
    """
    out = Path(out)
    names = check_teacher(model, teacher, options)
    with RunDirectory(out).hold():
        refuse_other_files(out)
        with labelled_early(model, records, out, names, options) as early:
            records = all_of(records)
            facts = facts_of(model, names, records, options)
            older = partial(older_facts, model, names, records, options)
            shards = Shards(out, facts, {"teacher": teacher}, older, OTHER_TARGETS, ADVICE)
            label_all(model, records, shards, names, options, early)
        if shards.is_finished:
            say(f"{out} is finished: nothing to do")
        else:
            shards.finish()
    return out


def check_teacher(model: Teacher, teacher: str, options: LabelOptions) -> tuple[str, ...]:
    """The dimensions to label. InputError for unknown ones, and for a model that compares."""
    names = model.check_dimensions(options.dimensions)
    if model.forms.reference:
        raise InputError(f"{teacher} compares with a reference; label with a model that scores single images")
    return names


def facts_of(
    model: Teacher, names: tuple[str, ...], records: Sequence[Record], options: LabelOptions
) -> dict[str, Any]:
    """What targets depend on; the batch size is not part of it. InputError for records that the model does not take."""
    check_takes(model, WHAT, records)
    chosen = {key: value for key, value in asdict(options).items() if key != "batch_size"} | {"dimensions": list(names)}
    return {
        "teacher_model": model.fingerprint(),
        "rubric": model.rubric.fingerprint(),
        "options": chosen,
        "records": records_fingerprint(records),
        "count": len(records),
    }


def older_facts(
    model: Teacher, names: tuple[str, ...], records: Sequence[Record], options: LabelOptions
) -> dict[str, Any]:
    """The same as version 0.1 recorded it."""
    return {
        "teacher_weights": weights_fingerprint_1(model) if isinstance(model, RewardModel) else None,
        "rubric": model.rubric.fingerprint(),
        "options": asdict(options) | {"dimensions": list(names)},
        "records": _records_fingerprint_1(records),
        "count": len(records),
    }


def parts_of(count: int, options: LabelOptions) -> list[tuple[str, int, str]]:
    """Every shard of `count` records: its file, its first record, and what it is made from."""
    starts = range(0, count, options.shard_size)
    return [
        (_file_of(n), start, f"records {start} to {min(start + options.shard_size, count) - 1}")
        for n, start in enumerate(starts)
    ]


def _file_of(shard: int) -> str:
    return f"targets-{shard:05d}.parquet"


def all_of(records: Sequence[Record] | PoolCheck) -> Sequence[Record]:
    """The records, checked. InputError for bad ones."""
    return records.records() if isinstance(records, PoolCheck) else records


def labelled_early(
    model, records, out: Path, names, options: LabelOptions, job: Job | None = None
) -> AbstractContextManager[Mapping[str, EarlyShard]]:
    """The shards that a new folder can have before its records are checked."""
    if not isinstance(records, PoolCheck) or (out / MANIFEST).exists():
        return nullcontext({})

    def make(part: Sequence[Record], start: int, number: int, between: Callable[[], object]) -> pa.Table:
        check_takes(model, WHAT, part)
        return _label_shard(model, part, start, names, options, number, between)

    return early_shards(records, out, options.shard_size, _file_of, make, job)


def label_all(
    model,
    records,
    shards: Shards,
    names,
    options: LabelOptions,
    early: Mapping[str, EarlyShard],
    job: Job | None = None,
) -> None:
    """Label what is missing, of a job's part where it is one of several. Of `early` shards those are taken that fit."""
    parts = list(own_part(job, parts_of(len(records), options)))
    total = sum(len(records[start : start + options.shard_size]) for _, (_, start, _) in parts)
    with tqdm(total=total, desc=f"labelling {job or ''}".strip(), unit="image") as progress:
        for number, (name, start, made_from) in parts:
            part = records[start : start + options.shard_size]
            if not shards.keep(name, made_from):
                if name in early and early[name].fits(part):
                    shards.take(early[name].file, made_from)
                else:
                    shards.add(name, _label_shard(model, part, start, names, options, number), made_from)
            progress.update(len(part))


def _label_shard(
    model, records, start, names, options: LabelOptions, number: int, between: Callable[[], object] = bool
) -> pa.Table:
    """`between` is called before every batch."""
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(options.seed * 1_000_003 + number)
        shown = PicturesOf(records)
        texts = [Texts(record.prompt, record.answer) for record in records]
        scores = model.score_windows(shown, texts, names, options.batch_size, options.batch_size)
        for at in range(0, len(records), options.batch_size):
            between()
            stop = min(at + options.batch_size, len(records))
            with counted(start + (at if options.reasoning else 0)):
                if options.reasoning:
                    images, prompts, more = judged_as(shown[at:stop], texts[at:stop])
                    judged = model.judge(
                        images, prompts, options.traces, names, options.temperature, options.batch_size, **more
                    )
                else:
                    judged = next(scores)
            for i, judgement in enumerate(judged):
                rows += _shard_rows(judgement, start + at + i, texts[at + i].prompt, names)
    return pa.Table.from_pylist(rows)


def _shard_rows(judgement, index: int, prompt: str, names: tuple[str, ...]) -> list[dict]:
    reasoned = isinstance(judgement, Judgement)
    distribution = judgement.distribution if reasoned else judgement
    each = judgement.trace_distribution if reasoned else distribution.probs
    within, between = split_spread(each.transpose(0, 1), distribution.bins)
    return [
        {
            "record": index,
            "prompt": prompt,
            "dimension": name,
            "probs": distribution.probs[0, d].tolist(),
            "mean": distribution.mean[0, d].item(),
            "within_std": within[d].item(),
            "between_std": between[d].item(),
            "trace_probs": judgement.trace_distribution[:, d].tolist() if reasoned else [],
            "traces": judgement.traces[name] if reasoned else [],
            "tokens": judgement.tokens[:, d].float().mean().item() if reasoned else 0.0,
            "truncated": judgement.truncated[:, d].float().mean().item() if reasoned else 0.0,
            **(distribution.facts[0][d] if isinstance(distribution, ReportedDistribution) else {}),
        }
        for d, name in enumerate(names)
    ]


def distilled_items(
    folder: Path, records: Sequence[Record], data: DataRecipe, model: RewardModel
) -> Sequence[DirectItem]:
    """RISD's items: every labelled (record, dimension) with the teacher's distribution, as `data` wants it.

    Raises InputError when the folder is incomplete, or belongs to other records or another rubric, or holds fewer traces.
    """
    wanted = data.target_traces
    shards, names = _read(folder, records, data.dimensions, model)
    columns = ("record", "dimension", "probs" if wanted is None else "trace_probs")
    last = data.train_records or len(records)
    tables = (_first_traces(_labelled(shard, columns, names, last), wanted, folder) for shard in shards)
    return DistilledItems(records, names, data.one_hot_targets, tables)


def _first_traces(table: pa.Table, wanted: int | None, folder: Path) -> pa.Table:
    """The distributions of the first `wanted` traces alone. InputError for a row that has fewer."""
    if wanted is None:
        return table
    probs = table["trace_probs"]
    counts = pc.list_value_length(probs)
    few = counts.filter(pc.less(counts, wanted))
    if len(few):
        raise InputError(
            f"{folder}: made with {few[0]} traces an item, data.target_traces is {wanted}; label with `--traces {wanted}`"
        )
    at = table.schema.get_field_index("trace_probs")
    return table.set_column(at, "trace_probs", pc.list_slice(probs, 0, wanted)) if len(probs) else table


def explained_items(
    folder: Path, records: Sequence[Record], data: DataRecipe, dimensions: Sequence[str], model: RewardModel
) -> Sequence[DirectItem]:
    """RewardDance's items: annotations with a post-hoc chain each, written by the model that made the targets.

    Of an item's traces the one is taken whose own distribution gives the annotation most weight: the chain that best
    explains the given score. Raises InputError like `distilled_items`, and for targets made without reasoning.
    """
    chosen, chains = records[: data.train_records], Chains()
    shards, names = _read(folder, records, dimensions, model)
    columns = ("record", "dimension", "traces", "trace_probs")
    for row in (row for shard in shards for row in _labelled(shard, columns, names, len(chosen)).to_pylist()):
        target = chosen[row["record"]].target(row["dimension"], model.rubric.scale, data.smoothing)
        if target is None:
            continue
        if not row["traces"]:
            raise InputError(f"{folder}: holds no traces; label without `--direct`")
        best = int((torch.tensor(row["trace_probs"]) @ target).argmax())
        chains.add(row["record"], names.index(row["dimension"]), model.as_trace(row["traces"][best]))
    return ExplainedItems(annotated_items(chosen, names, model, data.smoothing), chains)


def _read(
    folder: Path, records: Sequence[Record], dimensions: Sequence[str] | None, model: RewardModel
) -> tuple[list[Path], list[str]]:
    """All shards, and the dimensions that are wanted of them, after checks."""
    file = folder / MANIFEST
    if not file.exists():
        raise InputError(f"{folder}: no {MANIFEST}; expected a folder written by `zreward label`")
    manifest = targets_manifest(file)
    version = manifest.get("schema", 1)
    now = records_fingerprint(records) if version > 1 else _records_fingerprint_1(records)
    if manifest["records"] != now:
        raise InputError(
            f"{folder}: the targets were made for other records than data.train (other prompts, other pictures, or another "
            "order); label these records first"
        )
    if manifest["rubric"] != model.rubric.fingerprint():
        raise InputError(f"{folder}: the targets were made with another rubric than the student's")
    shards = whole_shards(folder, manifest)
    seen = [np.unique(shard_table(shard, ("record",))["record"].to_numpy()) for shard in shards]
    count = len(np.unique(np.concatenate(seen))) if seen else 0
    if count != len(records):
        raise InputError(f"{folder}: {count} of {len(records)} records are labelled; run `zreward label` to the end")
    labelled = manifest["options"]["dimensions"]
    absent = [name for name in dimensions or () if name not in labelled]
    if absent:
        raise InputError(
            f"{folder}: the targets hold {labelled}, not {absent}; label these dimensions, or train on others"
        )
    return shards, list(dimensions or labelled)


def _labelled(shard: Path, columns: Sequence[str], names: Sequence[str], last: int) -> pa.Table:
    """Some columns of a shard, of the rows for these dimensions and the records before `last`."""
    table = shard_table(shard, columns)
    known = pc.is_in(table["dimension"], value_set=pa.array(names, pa.string()))
    return table.filter(pc.and_(known, pc.less(table["record"], last)))


def whole_shards(folder: Path, manifest: dict) -> list[Path]:
    """The shards, each as it was written. InputError naming the first that is missing or damaged."""
    if manifest.get("schema", 1) == 1:  # had no checksums
        return sorted(folder.glob("targets-*.parquet"))
    lines = dict(sorted(read_lines(folder, manifest).items()))
    for name, line in lines.items():
        reason = damage(folder / name, line)
        if reason:
            command = "average" if "averaged" in manifest else "label"
            raise InputError(f"{folder / name} is {reason}; run `zreward {command}` again: it makes this shard anew")
    return [folder / name for name in lines]


def shard_table(shard: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard's rows; `columns`: all by default. InputError for one that cannot be read."""
    try:
        return pq.read_table(shard, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{shard} is damaged: {reason}; delete it, and run `zreward label` again") from None


def targets_manifest(file: Path) -> dict:
    stored = read_manifest(file, DAMAGED)
    try:
        _ = [stored[key] for key in ("records", "rubric", "options")], stored["options"]["dimensions"]
    except (KeyError, TypeError):
        raise InputError(f"{file} is damaged; {DAMAGED}") from None
    return stored


def refuse_other_files(out: Path) -> None:
    """InputError for a folder of something else, or one that several jobs have begun."""
    refuse_jobs(out, out)
    if not (out / MANIFEST).exists() and not holds_nothing(out):
        raise InputError(f"{out} is not empty and holds no {MANIFEST}; choose another folder for the targets")


def _records_fingerprint_1(records: Sequence[Record]) -> str:
    """Of targets that older versions wrote: of files only the name and the size; they had records of one picture only."""
    digest = hashlib.sha256()
    if not all(record.image is not None and record.answer is None for record in records):
        return ""
    for record in records:
        image = record.only_image("a targets file of version 0.1")
        digest.update(record.prompt.encode() + b"\0" + hashlib.sha256(_image_identity(image)).digest())
    return digest.hexdigest()[:16]


def _image_identity(image: ImageSource) -> bytes:
    if isinstance(image, str):
        return f"{Path(image).name} {Path(image).stat().st_size}".encode()
    return encoded(image) if isinstance(image, bytes | PackedImage) else image.tobytes()
