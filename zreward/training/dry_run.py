"""One step of a recipe with tiny random weights of its architecture, on a handful of random pictures: does it run at all?

What is kept from the recipe: method, architecture, LoRA, accumulation, roll-out and loss settings. What is replaced:
weights, tokenizer, rubric, data, output folder, and the number of steps; precision and sharding are left to the real machine.
"""

from __future__ import annotations

import io
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zreward.common.bounded import read_json
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data import Record, save_records
from zreward.models.names import find_model
from zreward.models.pairwise import PairwiseQuestion
from zreward.models.scratch import SCRATCH_FORMS, ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe
from zreward.training.run import prepare, train
from zreward.training.targets import LabelOptions, label

PAIRS, IMAGES, SIDE, TRACE_TOKENS = 2, 2, 32, 8
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
    """Run one optimizer step; returns a line that says what ran and which loss came out."""
    family = architecture(recipe.model.name)
    rubric = Rubric.default()
    records = _random_records(2 * PAIRS * recipe.optimizer.gradient_accumulation, rubric, recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.parquet"
        save_records(records, data)
        torch.manual_seed(recipe.seed)
        spec = TINY if family == "qwen3_5" else replace(TINY, linear_layers=0)
        base = make_scratch(family, spec, [record.prompt for record in records], rubric, max_trace_tokens=TRACE_TOKENS)
        targets = None
        if recipe.data.targets is not None:
            targets = str(label(base, "dry run", records, Path(folder) / "targets", LabelOptions()))
        teacher = None
        if recipe.rollout.teacher is not None:
            teacher = str(Path(folder) / "teacher")
            base.save_pretrained(teacher)
        small = replace(
            recipe,
            out=str(Path(folder) / "run"),
            data=replace(recipe.data, train=str(data), train_split=None, dev=None, dimensions=None, targets=targets),
            optimizer=replace(recipe.optimizer, steps=1, batch_size=PAIRS, warmup_steps=0),
            model=replace(recipe.model, dtype="float32", quantization=None),
            rollout=replace(recipe.rollout, teacher=teacher),
            comparison=PairwiseQuestion(
                rubric.labels[0], rubric.labels[-1], " above", SCRATCH_FORMS.direct, SCRATCH_FORMS.answer_prefix
            ),
            eval_every=0,
            save_every=recipe.rollout.updates_per_rollout,
            report_to=[],
            trainer={},
        )
        train(small, model=prepare(base, small))
        step = next(row for row in read_metrics(small.out) if "loss" in row)
    form = "reasoning" if find_method(recipe.method).reasons else "direct"
    return f"dry run: {recipe.method} ({form}) on {family}: one step, loss {step['loss']:.4f}"


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
