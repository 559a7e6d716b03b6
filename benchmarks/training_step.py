"""What a training step costs: GDSO beside GRPO with the same roll-outs, RISD beside SFT with the same rows.

    python benchmarks/training_step.py [--json FILE] [--steps 12] [--rounds 4] [--threads N]

Each pair runs in turns on the same model, pictures, prompts and seeds, at a learning rate that moves nothing: so both
sample the very same traces. The ratio is that of the medians over all steps; the first step of a turn is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from zreward.data import load_records
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import build_trainer, load_model, versions
from zreward.training.targets import LabelOptions, label
from zreward.world.base_models import load_base
from zreward.world.dataset import WorldSize, make_world
from zreward.world.recipes import recipe_file

STILL = 1e-12  # learning rate


class Stopwatch(TrainerCallback):
    """Seconds of every step but the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step > 1:
            self.seconds.append(time.perf_counter() - self._begin)


def step_seconds(recipe: Recipe) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(recipe.seed)
        trainer = build_trainer(replace(recipe, out=folder), Path(folder), load_model(recipe))
        watch = Stopwatch()
        trainer.add_callback(watch)
        trainer.train()
    return watch.seconds


def compare(first: Recipe, second: Recipe, rounds: int) -> dict[str, float]:
    """Median seconds of a step of both, and their ratio."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for side in order:
            seconds[side].extend(step_seconds((first, second)[side]))
    medians = [statistics.median(side) for side in seconds]
    return {first.method: medians[0], second.method: medians[1], "ratio": medians[0] / medians[1]}


def still(name: str, steps: int, data: dict[str, Path], **changes) -> Recipe:
    """A shipped recipe that trains for `steps` steps and changes nothing."""
    recipe = load_recipe(recipe_file(name))
    sources = replace(recipe.data, train=str(data["train"]), dev=None, **changes.pop("data", {}))
    optimizer = replace(
        recipe.optimizer, steps=steps, learning_rate=STILL, warmup_steps=0, **changes.pop("optimizer", {})
    )
    return replace(recipe, data=sources, optimizer=optimizer, eval_every=0, save_every=10**6, **changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        data = make_world(Path(folder), 0, WorldSize(train=(100, 2), dev=(1, 1), pool=(1, 1), test=(1, 1)))
        gdso = still("world-gdso", options.steps, data)
        grpo = replace(gdso, method="grpo")  # the same roll-outs, KL term included
        targets = Path(folder) / "targets"
        label(load_base("small"), "small", load_records(data["train"]), targets, LabelOptions(reasoning=False))
        risd = still("world-risd", options.steps, data, data={"targets": str(targets)})
        sft = replace(risd, method="sft", data=replace(risd.data, targets=None))
        result = {
            "gdso_over_grpo": compare(gdso, grpo, options.rounds),
            "risd_over_sft": compare(risd, sft, options.rounds),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
    for name in ("gdso_over_grpo", "risd_over_sft"):
        first, second, ratio = result[name].items()
        print(f"{name}: {ratio[1]:.3f}  ({first[0]} {first[1]:.3f} s, {second[0]} {second[1]:.3f} s a step)")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
