"""What the generator learns from: the student's distribution, or less than that; and what becomes of it without guards.

    python benchmarks/refl_rewards.py DEMO --out DIR [--seed 0] [--steps 80] [--prompts 100] [--longer 4]
        [--only risd,sft,argmax,point,unguarded | --only monitored,watched,confident]

DEMO is a folder of `zreward demo`. Every row of the table is recipes/world-refl.yaml with the same budget:

    risd       the student: expectation of its distribution
    sft        the same small model, trained on the annotated pictures alone
    argmax     the student's most likely score, as if it were parsed from text (straight-through gradient)
    point      a student of the teacher's most likely scores: it knows one number per picture, no distribution
    unguarded  the student without anchor, disturbed copies, averaging and stopping, `--longer` times as many steps

Three more on request:

    monitored  unguarded, but for the monitor: it must stop in time, without the teacher and without the oracle
    watched    the guarded recipe with the monitor beside the guards: it must not stop, and GSB stays
    confident  the guarded recipe whose reward counts by the student's confidence (reward.confidence=1.0)

Then the guards judge the unguarded run's evaluations: which would have stopped it, and when. Writes DIR/rewards.json; a run
that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from zreward.common.config import load_config
from zreward.common.files import write_json
from zreward.common.runs import versions
from zreward.generation.guards import Evaluation, Guards
from zreward.generation.optimize import optimize
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.world.settings import recipe_file

BARE = (
    "guards.enabled=false",
    "guards.anchor=0",
    "reward.copies=1",
    "reward.shift=0",
    "reward.noise=0",
    "optimizer.average=0",
)
ROWS = ("risd", "sft", "argmax", "point", "unguarded")
LONGER = ("unguarded", "monitored")


def point_student(demo: Path, seed: int, out: Path) -> Path:
    """RISD with the demo's targets, each reduced to its most likely bin."""
    if not (out / "model" / "zreward.json").exists():
        recipe = load_recipe(recipe_file("ablations/risd-one-hot"))
        data = {
            "train": demo / "data" / "pool.parquet",
            "dev": demo / "data" / "dev.parquet",
            "targets": demo / "targets",
        }
        data = {key: str(path) for key, path in data.items()}
        recipe = replace(recipe, out=str(out), seed=seed, data=replace(recipe.data, **data))
        train(replace(recipe, model=replace(recipe.model, name="world:small")), resume=(out / "recipe.yaml").exists())
    return out / "model"


def run_row(name: str, demo: Path, out: Path, arguments: argparse.Namespace) -> OptimizeRecipe:
    students = {"sft": demo / "runs" / "sft-small" / "model", "point": out / "point-student" / "model"}
    if name == "point":
        point_student(demo, arguments.seed, out / "point-student")
    steps = arguments.steps * (arguments.longer if name in LONGER else 1)
    overrides = [
        f"student={students.get(name, demo / 'models' / 'student')}",
        f"out={out / name}",
        f"seed={arguments.seed}",
    ]
    overrides += [
        f"optimizer.steps={steps}",
        f"final.prompts={arguments.prompts}",
        f"guards.holdout={demo / 'models/teacher'}",
    ]
    overrides += [*BARE] if name in LONGER else []
    overrides += ["guards.holdout=null", "guards.holdout_reasoning=false"] if name == "monitored" else []
    if name in ("monitored", "watched"):
        overrides += ["monitor.enabled=true", f"monitor.data={demo / 'data/pool.parquet'}"]
    overrides += ["reward.confidence=1.0"] if name == "confident" else []
    overrides += ["reward.aggregate.reading=argmax"] if name == "argmax" else []
    recipe = load_config(OptimizeRecipe, recipe_file("world-refl"), overrides)
    if not (out / name / "gsb.json").exists():
        print(f"== {name}", flush=True)
        optimize(recipe, resume=(out / name / "recipe.yaml").exists())
    return recipe


def caught(recipe: OptimizeRecipe, evaluations: list[dict]) -> dict:
    """What recipes/world-refl.yaml's guards say of evaluations that were made without them."""
    guards = Guards(replace(recipe.guards, enabled=True))
    for evaluation in evaluations:
        guards.see(Evaluation(**evaluation))
        if guards.tripped:
            break
    name, message = guards.tripped or (None, "no guard objects")
    kept = guards.best.step if guards.best else None
    return {"guard": name, "step": guards.evaluations[-1].step, "message": message, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--prompts", type=int, default=100, help="of the final comparison, two pictures each")
    parser.add_argument("--longer", type=int, default=4)
    parser.add_argument("--only", default=",".join(ROWS))
    arguments = parser.parse_args()
    found: dict = {"rows": {}, "steps": arguments.steps, "seed": arguments.seed, "versions": versions()}
    for name in arguments.only.split(","):
        recipe = run_row(name, arguments.demo, arguments.out, arguments)
        run = arguments.out / name
        outcome = json.loads((run / "outcome.json").read_text())
        ended = {key: outcome[key] for key in ("stopped_at", "guard", "message")}
        found["rows"][name] = json.loads((run / "gsb.json").read_text()) | {"kept": outcome["step"]} | ended
        if name == "unguarded":
            found["caught"] = caught(recipe, json.loads((run / "looks.json").read_text())["looks"])
    dimensions = list(next(iter(found["rows"].values()))["oracle_before"])
    print(f"| reward | step kept | GSB | interval | diversity | reward | {' | '.join(dimensions)} |")
    print("| --- " * (6 + len(dimensions)) + "|")
    for name, row in found["rows"].items():
        means = [f"{row['oracle_before'][d]:.2f} → {row['oracle_after'][d]:.2f}" for d in dimensions]
        reward = f"{row['reward_before']:.2f} → {row['reward_after']:.2f}"
        interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
        head = [name, str(row["kept"]), f"{row['gsb']:+.3f}", interval, f"{row['diversity_ratio']:.2f}", reward]
        print(f"| {' | '.join([*head, *means])} |")
    for name, row in found["rows"].items():
        print(f"{name} ended at step {row['stopped_at']}: {row['message']}")
    if "caught" in found:
        print("guards on the unguarded run:", found["caught"])
    write_json(arguments.out / "rewards.json", found)


if __name__ == "__main__":
    main()
