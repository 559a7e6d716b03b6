"""What a training step costs: GDSO beside GRPO with the same roll-outs and beside TRL's GRPOTrainer, RISD beside SFT.

    python benchmarks/training_step.py [--json FILE] [--steps 12] [--rounds 4] [--threads N]

Each pair runs in turns on the same model, pictures, prompts and seeds, at a learning rate that moves nothing: so both
sample the very same traces. The ratio is that of the medians over all steps; the first step of a turn is not counted.
TRL's trainer (extra `trl`) samples as many traces a step, of the same model over the same pictures and questions. The JSON
file maps gdso_over_grpo, risd_over_sft and gdso_over_trl_grpo to their ratios, and holds the seconds behind them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from zreward.common.runs import RunDirectory, versions
from zreward.data import load_records
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import build_trainer, load_model
from zreward.training.targets import LabelOptions, label
from zreward.world.base_models import load_base
from zreward.world.dataset import WorldSize, make_world
from zreward.world.settings import recipe_file

STILL = 1e-12  # learning rate
Timed = Callable[[], list[float]]


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
        trainer = build_trainer(replace(recipe, out=folder), RunDirectory(Path(folder)), load_model(recipe))
        watch = Stopwatch()
        trainer.add_callback(watch)
        trainer.train()
    return watch.seconds


def trl_step_seconds(recipe: Recipe) -> list[float]:
    """As many traces a step as the recipe's, by TRL."""
    from trl_grpo import trl_trainer

    model, records = load_model(recipe), load_records(recipe.data.train)
    items = [(record, name) for record in records for name in record.scores if record.ratings(name)]
    sequences = 2 * recipe.optimizer.batch_size * recipe.rollout.group_size
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(model, items, sequences, recipe.rollout.group_size, recipe.optimizer.steps, Path(folder))
        watch = Stopwatch()
        trainer.add_callback(watch)
        trainer.train()
    return watch.seconds


def compare(names: tuple[str, str], sides: tuple[Timed, Timed], rounds: int) -> dict[str, float]:
    """Median seconds of a step of both, taking turns, and their ratio."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            seconds[side].extend(sides[side]())
    medians = [statistics.median(side) for side in seconds]
    return {names[0]: medians[0], names[1]: medians[1], "ratio": medians[0] / medians[1]}


def still(name: str, steps: int, splits: dict[str, Path], **changes) -> Recipe:
    """A shipped recipe that trains for `steps` steps and changes nothing."""
    recipe = load_recipe(recipe_file(name))
    sources = replace(recipe.data, train=str(splits["train"]), dev=None, **changes.pop("data", {}))
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
        data = make_world(Path(folder), 0, WorldSize(train=(100, 2), dev=(100, 2), pool=(1, 1), test=(1, 1)))
        gdso = still("world-gdso", options.steps, data)
        grpo = replace(gdso, method="grpo")  # the same roll-outs, KL term included
        targets = Path(folder) / "targets"
        rated = data | {"train": data["dev"]}  # every dimension of every picture is rated: SFT has as many rows as RISD
        label(load_base("small"), "small", load_records(rated["train"]), targets, LabelOptions(reasoning=False))
        risd = still("world-risd", options.steps, rated, data={"targets": str(targets)})
        sft = replace(risd, method="sft", data=replace(risd.data, targets=None))
        timed = {
            name: partial(step_seconds, recipe)
            for name, recipe in {"gdso": gdso, "grpo": grpo, "risd": risd, "sft": sft}.items()
        }
        wanted = [("gdso", "grpo"), ("risd", "sft")]
        if find_spec("trl"):
            timed["trl_grpo"] = partial(trl_step_seconds, gdso)
            wanted.append(("gdso", "trl_grpo"))
        result: dict[str, dict[str, float]] = {
            f"{first}_over_{second}": compare((first, second), (timed[first], timed[second]), options.rounds)
            for first, second in wanted
        }
    for name, figures in result.items():
        first, second, ratio = figures.items()
        print(f"{name}: {ratio[1]:.3f}  ({first[0]} {first[1]:.3f} s, {second[0]} {second[1]:.3f} s a step)")
    if options.json:
        ratios = {name: figures["ratio"] for name, figures in result.items()}
        facts = {"seconds": result, "threads": torch.get_num_threads(), "versions": versions()}
        options.json.write_text(json.dumps(ratios | facts, indent=2))


if __name__ == "__main__":
    main()
