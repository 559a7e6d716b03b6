"""One step of a recipe with tiny random weights of its architecture, on a handful of random pictures: does it run at all?

What is kept from the recipe: method, architecture, number format, engine and sharding (under `accelerate launch` all processes
take the step), LoRA, accumulation, roll-out and loss settings. What is replaced: weights, tokenizer, rubric, data, output
folder, and the number of steps; weights are not quantised.
"""

from __future__ import annotations

import io
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from PIL import Image

from zreward.common.bounded import read_json
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics
from zreward.data import Record, record_preferences, save_preferences, save_records
from zreward.models.devices import find_device, find_dtype
from zreward.models.names import find_model
from zreward.models.pairwise import PairwiseQuestion
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import SCRATCH_FORMS, ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.sampling.options import VllmOptions
from zreward.training.engines import start
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe
from zreward.training.run import prepare, train
from zreward.training.targets import LabelOptions, label
from zreward.training.trainer_base import is_main_process, training_arguments

PAIRS, IMAGES, SIDE, TRACE_TOKENS = 2, 2, 32, 4
_PATIENCE = 10.0  # seconds that the other processes have to fail, too
TINY = ScratchSpec(
    hidden_size=32,
    intermediate_size=32,
    heads=1,
    layers=2,
    linear_layers=1,
    vision_hidden_size=32,
    vision_layers=1,
    vision_heads=1,
)


def dry_run(recipe: Recipe) -> str:
    """Run one optimizer step; returns a line that says what ran and which loss came out.

    Raises:
        InputError: the engine that `accelerate launch` or the recipe names cannot do what the recipe asks for; a recipe that
            transformers refuses; an architecture without a tiny model.
    """
    family = architecture(recipe.model.name)
    # The arguments may not live on: under ZeRO-3, weights would be split while they are made.
    _, processes, _ = start(recipe, training_arguments(recipe, RunDirectory(Path(recipe.out))))
    rubric = Rubric.default()
    records = _random_records(2 * PAIRS * recipe.optimizer.gradient_accumulation * processes, rubric, recipe.seed)
    torch.manual_seed(recipe.seed)
    spec = TINY if family == "qwen3_5" else replace(TINY, linear_layers=0)
    base = make_scratch(family, spec, [record.prompt for record in records], rubric, max_trace_tokens=TRACE_TOKENS)
    with _common_folder(Path(recipe.out)) as folder:
        small = _small(recipe, folder, rubric)
        if is_main_process():
            _write_inputs(small, base, records)
        PartialState().wait_for_everyone()
        _train(small, base)
        step = next(row for row in read_metrics(small.out) if "loss" in row)
    form = "reasoning" if find_method(recipe.method).reasons else "direct"
    traces = " with traces by generate" if recipe.rollout.engine != "generate" else ""
    together = f" in {processes} processes" if processes > 1 else ""
    return f"dry run: {recipe.method} ({form}) on {family}{together}: one step{traces}, loss {step['loss']:.4f}"


def _small(recipe: Recipe, folder: Path, rubric: Rubric) -> Recipe:
    """The recipe of one step, whose inputs and results are in the folder."""
    targets = None if recipe.data.targets is None else str(folder / "targets")
    teacher = None if recipe.rollout.teacher is None else str(folder / "teacher")
    rated = None if recipe.data.rated is None else str(folder / "rated.parquet")
    data = str(folder / "data.parquet")
    return replace(
        recipe,
        out=str(folder / "run"),
        data=replace(
            recipe.data, train=data, train_split=None, dev=None, dimensions=None, targets=targets, rated=rated
        ),
        optimizer=replace(recipe.optimizer, steps=1, batch_size=PAIRS, warmup_steps=0),
        model=replace(recipe.model, quantization=None, attn_implementation=None),
        rollout=replace(recipe.rollout, teacher=teacher, engine="generate"),
        vllm=VllmOptions(),
        comparison=PairwiseQuestion(
            rubric.labels[0], rubric.labels[-1], " above", SCRATCH_FORMS.direct, SCRATCH_FORMS.answer_prefix
        ),
        eval_every=0,
        save_every=recipe.rollout.updates_per_rollout,
        report_to=[],
    )


def _write_inputs(small: Recipe, base: RewardModel, records: Sequence[Record]) -> None:
    if find_method(small.method).prefers:
        save_preferences(record_preferences(records), small.data.train)
    else:
        save_records(records, small.data.train)
    if small.data.rated is not None:
        save_records(records, small.data.rated)
    if small.data.targets is not None:
        label(base, "dry run", records, small.data.targets, LabelOptions())
    if small.rollout.teacher is not None:
        base.save_pretrained(small.rollout.teacher)


def _train(small: Recipe, base: RewardModel) -> None:
    device = find_device("cpu" if small.trainer.get("use_cpu") else None)
    number_format = find_dtype(small.model.dtype, device)
    if number_format is not None:
        base.backbone.to(number_format)
    train(small, model=prepare(base, small))


@contextmanager
def _common_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that every process sees: of several, beside `out`, where the run's own files would lie.

    Where one fails it stays until the others have failed, too, or for `_PATIENCE`: they would say that their files are gone.
    """
    if PartialState().num_processes == 1:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    beside = next(path for path in out.absolute().parents if path.is_dir())
    names = [tempfile.mkdtemp(prefix="dry-run-", dir=beside) if is_main_process() else ""]
    common = Path(broadcast_object_list(names)[0])
    try:
        yield common
        PartialState().wait_for_everyone()
    finally:
        with suppress(OSError):  # it is gone already
            (common / f"left-{PartialState().process_index}").touch()
        if is_main_process():
            end = time.monotonic() + _PATIENCE
            while len(list(common.glob("left-*"))) < PartialState().num_processes and time.monotonic() < end:
                time.sleep(0.05)
            shutil.rmtree(common, ignore_errors=True)


def _random_records(prompts: int, rubric: Rubric, seed: int) -> list[Record]:
    """Noise with random ratings by three people; no two pictures of a prompt are rated alike."""
    rng, records = random.Random(seed), []
    scores = np.linspace(rubric.scale.min, rubric.scale.max, len(rubric.scale)).tolist()
    for number in range(prompts):
        medians = {name: rng.sample(scores, IMAGES) for name in rubric.dimension_names}
        for image in range(IMAGES):
            file = io.BytesIO()
            pixels = np.frombuffer(rng.randbytes(3 * SIDE * SIDE), np.uint8).reshape(SIDE, SIDE, 3)
            Image.fromarray(pixels).save(file, "PNG")
            ratings = {
                name: {"a": each[image], "b": each[image], "c": rng.choice(scores)} for name, each in medians.items()
            }
            records.append(Record(f"picture {number}", file.getvalue(), ratings, split="train", id=f"{number}-{image}"))
    return records


def architecture(name: str) -> str:
    """The tiny architecture that stands for a model name: qwen3_5 or qwen3_vl."""
    plain = name.lower().replace("-", "").replace("_", "").replace(".", "")
    if "qwen35" in plain:
        return "qwen3_5"
    if "qwen3vl" in plain:
        return "qwen3_vl"
    config = Path(find_model(name)) / "config.json"
    if config.exists():
        kind = read_json(config).get("model_type")
        if kind in ("qwen3_5", "qwen3_vl"):
            return kind
    raise InputError(f"dry run: no tiny architecture stands for {name!r}; expected a Qwen3.5 or Qwen3-VL model")
