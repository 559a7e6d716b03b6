"""The teacher's targets: q_T(s | p, I, d) for every (record, dimension), in Parquet shards.

A shard is written whole; its random state depends on the seed and its number only. So a labelling run that was killed and
started again neither loses nor repeats an item, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from zreward.data import Record
from zreward.data.images import ImageSource
from zreward.errors import InputError, check_counts, counted
from zreward.files import atomic_path, write_json
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel
from zreward.training.direct import DirectItem, annotated_items
from zreward.training.recipe import DataRecipe

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class LabelOptions:
    traces: int = 1  # K: distributions of K traces are averaged (K = 1 is the paper)
    dimensions: tuple[str, ...] | None = None  # default: all of the rubric's
    temperature: float = 1.0
    reasoning: bool = True  # false: the teacher answers directly
    seed: int = 0
    shard_size: int = 256  # records per file
    batch_size: int = 16  # images at a time

    def __post_init__(self) -> None:
        check_counts(traces=self.traces, shard_size=self.shard_size, batch_size=self.batch_size)
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; expected 0 (greedy) or more")


def label(model: RewardModel, teacher: str, records: Sequence[Record], out: Path, options: LabelOptions) -> Path:
    """Write targets for all records into `out`; shards that are there already are kept.

    Raises InputError when `out` holds targets of another teacher, data set or other options.
    """
    names = model.check_dimensions(options.dimensions)
    if model.forms.reference:
        raise InputError(f"{teacher} compares with a reference; label with a model that scores single images")
    manifest = {
        "teacher": teacher,
        "teacher_weights": weights_fingerprint(model),
        "rubric": model.rubric.fingerprint(),
        "records": records_fingerprint(records),
        "count": len(records),
        "options": asdict(options) | {"dimensions": list(names)},
    }
    _check_manifest(out, manifest)
    starts = range(0, len(records), options.shard_size)
    with tqdm(total=len(records), desc="labelling", unit="image") as progress:
        for number, start in enumerate(starts):
            part = records[start : start + options.shard_size]
            file = out / f"targets-{number:05d}.parquet"
            if not file.exists():
                table = _label_shard(model, part, start, names, options, number)
                with atomic_path(file) as temporary:
                    pq.write_table(table, temporary)
            progress.update(len(part))
    return out


def _label_shard(model, records, start, names, options: LabelOptions, number: int) -> pa.Table:
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(options.seed * 1_000_003 + number)
        for at in range(0, len(records), options.batch_size):
            batch = records[at : at + options.batch_size]
            images, prompts = [r.image for r in batch], [r.prompt for r in batch]
            with counted(start + at):
                if options.reasoning:
                    judged: list[Judgement] = model.judge(
                        images, prompts, options.traces, names, options.temperature, options.batch_size
                    )
                else:
                    scores = model.score(images, prompts, names, options.batch_size)
                    judged = [scores[i : i + 1] for i in range(len(batch))]
            for i, judgement in enumerate(judged):
                rows += _shard_rows(judgement, start + at + i, batch[i].prompt, names)
    return pa.Table.from_pylist(rows)


def _shard_rows(judgement, index: int, prompt: str, names: tuple[str, ...]) -> list[dict]:
    reasoned = isinstance(judgement, Judgement)
    distribution = judgement.distribution if reasoned else judgement
    return [
        {
            "record": index,
            "prompt": prompt,
            "dimension": name,
            "probs": distribution.probs[0, d].tolist(),
            "mean": distribution.mean[0, d].item(),
            "trace_probs": judgement.trace_distribution[:, d].tolist() if reasoned else [],
            "traces": judgement.traces[name] if reasoned else [],
            "tokens": judgement.tokens[:, d].float().mean().item() if reasoned else 0.0,
            "truncated": judgement.truncated[:, d].float().mean().item() if reasoned else 0.0,
        }
        for d, name in enumerate(names)
    ]


def distilled_items(folder: Path, records: Sequence[Record], data: DataRecipe, model: RewardModel) -> list[DirectItem]:
    """RISD's items: every labelled (record, dimension) with the teacher's distribution, as `data` wants it.

    Raises InputError when the folder is incomplete, or belongs to other records or another rubric, or holds fewer traces.
    """
    items = []
    last = data.train_records or len(records)
    for row in _read(folder, records, data.dimensions, model):
        if row["record"] >= last:
            continue
        probs = torch.tensor(row["probs"])
        if data.target_traces is not None:
            if len(row["trace_probs"]) < data.target_traces:
                raise InputError(
                    f"{folder}: made with {len(row['trace_probs'])} traces an item, data.target_traces is "
                    f"{data.target_traces}; label with `--traces {data.target_traces}`"
                )
            probs = torch.tensor(row["trace_probs"][: data.target_traces]).mean(0)
        if data.one_hot_targets:
            probs = torch.nn.functional.one_hot(probs.argmax(), len(probs)).float()
        items.append(DirectItem(records[row["record"]], row["dimension"], probs))
    return items


def explained_items(
    folder: Path, records: Sequence[Record], data: DataRecipe, dimensions: Sequence[str], model: RewardModel
) -> list[DirectItem]:
    """RewardDance's items: annotations with a post-hoc chain each, written by the model that made the targets.

    Of an item's traces the one is taken whose own distribution gives the annotation most weight: the chain that best
    explains the given score. Raises InputError like `distilled_items`, and for targets made without reasoning.
    """
    scale, chains = model.rubric.scale, {}
    chosen = records[: data.train_records]
    for row in _read(folder, records, list(dimensions), model):
        target = records[row["record"]].target(row["dimension"], scale, data.smoothing)
        if target is None:
            continue
        if not row["traces"]:
            raise InputError(f"{folder}: holds no traces; label without `--direct`")
        best = int((torch.tensor(row["trace_probs"]) @ target).argmax())
        chains[row["record"], row["dimension"]] = (int(target.argmax()), model.as_trace(row["traces"][best]))
    index = {id(record): number for number, record in enumerate(records)}
    return [
        replace(item, explanation=chains[index[id(item.record)], item.dimension])
        for item in annotated_items(chosen, dimensions, model, data.smoothing)
    ]


def _read(folder: Path, records: Sequence[Record], dimensions: Sequence[str] | None, model: RewardModel) -> list[dict]:
    """The rows of all shards for these dimensions, after checks."""
    file = folder / MANIFEST
    if not file.exists():
        raise InputError(f"{folder}: no {MANIFEST}; expected a folder written by `zreward label`")
    manifest = _stored_manifest(file)
    if manifest["records"] != records_fingerprint(records):
        raise InputError(
            f"{folder}: the targets were made for other records than data.train; label these records first"
        )
    if manifest["rubric"] != model.rubric.fingerprint():
        raise InputError(f"{folder}: the targets were made with another rubric than the student's")
    rows = [row for shard in sorted(folder.glob("targets-*.parquet")) for row in pq.read_table(shard).to_pylist()]
    seen = {row["record"] for row in rows}
    if len(seen) != len(records):
        raise InputError(
            f"{folder}: {len(seen)} of {len(records)} records are labelled; run `zreward label` to the end"
        )
    labelled = manifest["options"]["dimensions"]
    absent = [name for name in dimensions or () if name not in labelled]
    if absent:
        raise InputError(
            f"{folder}: the targets hold {labelled}, not {absent}; label these dimensions, or train on others"
        )
    wanted = set(dimensions or labelled)
    return [row for row in rows if row["dimension"] in wanted]


def _stored_manifest(file: Path) -> dict:
    try:
        stored = json.loads(file.read_text())
        _ = [stored[key] for key in ("records", "rubric", "options")]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged; delete the folder and run `zreward label` again") from None
    return stored


def _check_manifest(out: Path, manifest: dict) -> None:
    file = out / MANIFEST
    if not file.exists():
        if out.exists() and any(out.iterdir()):
            raise InputError(f"{out} is not empty and holds no {MANIFEST}; choose another folder for the targets")
        write_json(file, manifest)
        return
    stored = _stored_manifest(file)
    manifest = json.loads(json.dumps(manifest))
    different = [key for key in manifest if key != "teacher" and stored.get(key) != manifest[key]]
    if different:
        raise InputError(
            f"{out} holds targets made with other {', '.join(different)}; choose another folder, or delete this one to start over"
        )


def records_fingerprint(records: Sequence[Record]) -> str:
    """Changes with the prompts, their order and the images: their bytes; of files the name and the size."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.prompt.encode() + b"\0" + hashlib.sha256(_image_identity(record.image)).digest())
    return digest.hexdigest()[:16]


def _image_identity(image: ImageSource) -> bytes:
    if isinstance(image, str):
        return f"{Path(image).name} {Path(image).stat().st_size}".encode()
    return image if isinstance(image, bytes) else image.tobytes()
