"""The first losses of every recipes/world-*.yaml on a small world.

python benchmarks/seeded_losses.py [--write FILE] [--compare FILE]

A change that should not change training must leave these numbers as they are: write them before it, compare after it. Batches
are small, so that all recipes take well under a minute; seeds, methods and models are the recipes' own.
tests/training/seeded_losses.json was written by commit 07f77a1, and is compared by the tests.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from zreward.common.config import load_config
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.generation.optimize import optimize
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world.base_models import load_base
from zreward.world.dataset import WorldSize, make_world
from zreward.world.settings import recipe_file

SIZE = WorldSize(train=(12, 2), dev=(2, 2), pool=(2, 2), test=(2, 2))
STEPS = 3
METHODS = ("sft", "gdso", "grpo", "rewarddance", "rewarddance-pairwise", "opd", "risd")
SHORT = (f"optimizer.steps={STEPS}", "optimizer.batch_size=4", "data.dev=null", "eval_every=0", f"save_every={STEPS}")


class SmallWorld:
    """Data in a folder, and targets that the base model wrote for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train = make_world(folder / "world", 0, SIZE)["train"]
        self.targets = folder / "targets"
        model = load_base("large")
        model.max_trace_tokens = 12
        label(model, "world:large", load_records(self.train), self.targets, LabelOptions(traces=2))

    def losses(self, method: str) -> list[float]:
        """Loss and gradient norm of each step of recipes/world-METHOD.yaml; for refl reward, drift and gradient norm."""
        if method == "refl":
            return self._rewards()
        own = [f"out={self.folder / method}", f"data.train={self.train}", "model.max_trace_tokens=12", *SHORT]
        if method in ("risd", "rewarddance"):
            own.append(f"data.targets={self.targets}")
        if method == "opd":
            own.append("rollout.teacher=world:large")
        train(load_recipe(recipe_file(f"world-{method}"), own))
        steps = [row for row in read_metrics(self.folder / method) if "loss" in row]
        return [row[key] for row in steps for key in ("loss", "grad_norm")]

    def _rewards(self) -> list[float]:
        own = [
            "student=world:small",
            f"out={self.folder / 'refl'}",
            "prompts=world:8",
            "held_out=world:4",
            "final.judge=none",
        ]
        own += [
            "guards.holdout=null",
            "guards.holdout_reasoning=false",
            "guards.prompts=2",
            "generator.steps=4",
            "gradient.steps=[1, 2]",
            "reward.copies=1",
        ]
        own += [f"optimizer.steps={STEPS}", "optimizer.batch_size=2"]
        optimize(load_config(OptimizeRecipe, recipe_file("world-refl"), own))
        return [row[key] for row in read_metrics(self.folder / "refl") for key in ("reward", "drift", "grad_norm")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = SmallWorld(Path(folder))
        found = {method: world.losses(method) for method in (*METHODS, "refl")}
    if chosen.write:
        chosen.write.write_text(json.dumps(found, indent=1) + "\n")
    before = json.loads(chosen.compare.read_text()) if chosen.compare else {}
    for method, losses in found.items():
        same = "" if method not in before else "  same" if before[method] == losses else f"  was {before[method]}"
        print(f"{method:22s}{' '.join(f'{loss:.6f}' for loss in losses)}{same}")


if __name__ == "__main__":
    main()
