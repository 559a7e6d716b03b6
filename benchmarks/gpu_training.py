"""Rows of `gpu.py` that label, reason and train: the shipped recipes' steps with LoRA, on the model of the other rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from gpu_model import Bench, measure
from small_models import passes_of
from transformers import TrainerCallback

from zreward.common.runs import RunDirectory
from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.training import targets
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import build_trainer, prepare

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
STEPS = 2  # counted; one more warms up


class Stopwatch(TrainerCallback):
    """Seconds of every step but the first, and GiB of a card in use at most."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self._begin = device, list[float](), 0.0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begin = self._now()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step > 1:
            self.seconds.append(self._now() - self._begin)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@cache
def records(bench: Bench) -> Path:
    """JPEG files of as many pictures as are labelled; every two share a prompt and are rated, so that they are pairs."""
    name, lines = bench.model.rubric.dimension_names[0], []
    count = bench.sizes.files
    prompts = bench.prompts(count)
    for n, picture in enumerate(bench.pictures(count)):
        picture.save(bench.folder / f"{n}.jpg", quality=90)
        lines.append({"prompt": prompts[n // 2], "image": f"{n}.jpg", "scores": {name: 4.0 - 2 * (n % 2)}})
    file = bench.folder / "records.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _label(bench: Bench) -> float:
    """Seconds. The fingerprint of the weights is left out: for 18 GB it would take as long as hundreds of pictures."""
    options = targets.LabelOptions(reasoning=False, batch_size=bench.sizes.most)
    read = load_records(records(bench))
    with patch.object(targets, "model_fingerprint", lambda *_: {}):
        begin = time.perf_counter()
        targets.label(bench.model, "random", read, bench.folder / "targets", options)
        return time.perf_counter() - begin


label_once = cache(_label)


def label(bench: Bench) -> dict[str, Any]:
    """All dimensions, from files to a folder of targets."""
    most = bench.sizes.most
    bench.model.score(bench.pictures(most), bench.prompts(most), batch_size=most)  # warms up
    return {"pictures_per_second": bench.sizes.files / label_once(bench)}


def judge(bench: Bench) -> dict[str, Any]:
    """A trace each for many pictures and one dimension; random weights never end one."""
    model, most = bench.model, bench.sizes.most
    pictures, prompts = bench.pictures(most), bench.prompts(most)
    sampled: list[int] = []

    def call() -> None:
        judged = model.judge(pictures, prompts, dimensions=model.rubric.dimension_names[:1], batch_size=most)
        sampled.append(sum(int(one.tokens.sum()) for one in judged))

    with traces_of(model, bench.sizes.judged_tokens):
        (cost,) = measure(bench.device, [call], rounds=1)
    return {"tokens_per_second": sampled[-1] / cost.seconds, "tokens": sampled[-1], **cost.figures()}


@contextmanager
def traces_of(model: RewardModel, tokens: int) -> Iterator[None]:
    before = model.max_trace_tokens
    model.max_trace_tokens = tokens
    try:
        yield
    finally:
        model.max_trace_tokens = before


def gdso(bench: Bench) -> dict[str, Any]:
    """The recipe of the 27 B teacher, one pair in a step."""
    recipe = recipe_of("qwen3.5-27b-gdso.yaml", bench)
    with traces_of(bench.model, bench.sizes.trained_tokens):
        return step(bench, recipe) | {"traces": 2 * recipe.rollout.group_size}


def risd(bench: Bench) -> dict[str, Any]:
    """The recipe of the 9 B student, one batch in a step."""
    label_once(bench)
    recipe = recipe_of("qwen3.5-9b-risd.yaml", bench, targets=str(bench.folder / "targets"))
    return step(bench, recipe) | {"items": recipe.optimizer.batch_size}


def recipe_of(name: str, bench: Bench, **data: Any) -> Recipe:
    """A shipped recipe, over few steps that save and look at nothing. A step has one batch instead of several."""
    recipe = load_recipe(RECIPES / name)
    sources = replace(recipe.data, train=str(records(bench)), train_split=None, dev=None, dev_split=None, **data)
    optimizer = replace(recipe.optimizer, steps=STEPS + 1, gradient_accumulation=1, warmup_steps=0)
    own = {"use_cpu": bench.device.type == "cpu", "disable_tqdm": True}
    return replace(
        recipe, data=sources, optimizer=optimizer, eval_every=0, save_every=10**6, trainer=recipe.trainer | own
    )


def step(bench: Bench, recipe: Recipe) -> dict[str, Any]:
    watch = Stopwatch(bench.device)
    with adapted(bench.model, recipe) as model:
        trainer = build_trainer(recipe, RunDirectory(bench.folder / recipe.method), model)
        trainer.prepare_device()
        trainer.add_callback(watch)
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(bench.device)
        seen = passes_of(model, trainer.train)
    figures: dict[str, Any] = {"seconds": sum(watch.seconds) / STEPS}
    for name, wanted in (("update_tokens", True), ("other_tokens", False)):
        figures[name] = sum(number for number, graded in seen if graded is wanted) / (STEPS + 1)
    if bench.device.type == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated(bench.device) / 2**30
    return figures


@contextmanager
def adapted(model: RewardModel, recipe: Recipe) -> Iterator[RewardModel]:
    """With the recipe's LoRA, and without it afterwards."""
    prepare(model, recipe)
    try:
        yield model
    finally:
        model.backbone.gradient_checkpointing_disable()
        model.backbone.model = model.backbone.model.unload()
        model.eval().requires_grad_(False)
