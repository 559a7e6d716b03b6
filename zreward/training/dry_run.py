"""One step of a recipe with tiny random weights of its architecture, on a handful of world pictures: does it run at all?

What is kept from the recipe: method, architecture, LoRA, accumulation, roll-out and loss settings. What is replaced:
weights, tokenizer, data, output folder, and the number of steps; precision and sharding are left to the real machine.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

from zreward.common.bounded import read_json
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data import save_records
from zreward.training.recipe import DIRECT_METHODS, Recipe
from zreward.training.run import prepare, train
from zreward.training.targets import LabelOptions, label

PAIRS, IMAGES, TRACE_TOKENS = 2, 2, 8


def dry_run(recipe: Recipe) -> str:
    """Run one optimizer step; returns a line that says what ran and which loss came out."""
    from zreward.world.base_models import WORLD_COMPARISON, make_base
    from zreward.world.dataset import make_record
    from zreward.world.grammar import sample_prompts
    from zreward.world.raters import make_panel
    from zreward.world.scenes import DIMENSIONS, sample_scene

    family = architecture(recipe.model.name)
    rng = random.Random(recipe.seed)
    panel = make_panel(rng)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.parquet"
        records = [
            make_record(sample_scene(prompt, rng), panel, 3, DIMENSIONS, rng, f"{n}-{i}", "train")
            for n, prompt in enumerate(sample_prompts(2 * PAIRS * recipe.optimizer.gradient_accumulation, rng))
            for i in range(IMAGES)
        ]
        save_records(records, data)
        base = make_base("small", family, recipe.seed)
        base.max_trace_tokens = TRACE_TOKENS
        targets = None
        if recipe.method in ("risd", "rewarddance"):
            targets = str(label(base, "dry run", records, Path(folder) / "targets", LabelOptions()))
        teacher = None
        if recipe.method == "opd":
            teacher = str(Path(folder) / "teacher")
            base.save_pretrained(teacher)
        small = replace(
            recipe,
            out=str(Path(folder) / "run"),
            data=replace(recipe.data, train=str(data), train_split=None, dev=None, dimensions=None, targets=targets),
            optimizer=replace(recipe.optimizer, steps=1, batch_size=PAIRS, warmup_steps=0),
            model=replace(recipe.model, dtype="float32", quantization=None),
            rollout=replace(recipe.rollout, teacher=teacher),
            comparison=WORLD_COMPARISON,
            eval_every=0,
            save_every=recipe.rollout.updates_per_rollout,
            report_to=[],
            trainer={},
        )
        train(small, model=prepare(base, small))
        step = next(row for row in read_metrics(small.out) if "loss" in row)
    form = "direct" if recipe.method in DIRECT_METHODS else "reasoning"
    return f"dry run: {recipe.method} ({form}) on {family}: one step, loss {step['loss']:.4f}"


def architecture(name: str) -> str:
    """The world-sized architecture that stands for a model name: qwen3_5 or qwen3_vl."""
    plain = name.lower().replace("-", "").replace("_", "").replace(".", "")
    if name.startswith("world:") or "qwen35" in plain:
        return "qwen3_5"
    if "qwen3vl" in plain:
        return "qwen3_vl"
    config = Path(name) / "config.json"
    if config.exists():
        kind = read_json(config).get("model_type")
        if kind in ("qwen3_5", "qwen3_vl"):
            return kind
    raise InputError(f"dry run: no tiny architecture stands for {name!r}; expected a Qwen3.5 or Qwen3-VL model")
