"""Why the student stays behind its teacher: more steps, or a larger student, on the same targets.

    python benchmarks/student_gap.py SWEEP [--variants small-900,small-2700,large-900] [--rate 3e-4]

SWEEP is a folder of benchmarks/sweep.py (with its default pool and dimension) whose teacher has labelled the pool. A variant is
a base model and a number of steps; prints the HPA on the sweep's dev pictures beside the teacher's. What is done already is kept.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sweep import RATES, SIZE, TRAINED, dev_hpa, is_done

from zreward.common.runs import read_metrics
from zreward.training.run import train
from zreward.world.reproduce import tasks
from zreward.world.reproduce.plan import TEACHER, StudyPlan, StudyTask


def distil(study: StudyPlan, size: str, steps: int, rate: float) -> float:
    """Dev HPA of a base model after RISD on the pool's targets."""
    risd = next(method for method in TRAINED if method.name == "risd")
    if size == risd.size and steps == risd.steps and is_done(study, risd, rate):
        return dev_hpa(study, risd, rate)
    recipe = tasks.study_recipe(study, StudyTask("", "train", method=replace(risd, size=size, steps=steps, rate=rate)))
    out = study.out / "gap" / f"{size}-{steps}-{rate:g}"
    recipe = replace(recipe, out=str(out), eval_every=steps)
    if not (out / "model" / "zreward.json").exists():
        train(recipe, resume=(out / "recipe.yaml").exists())
    return [row["dev_hpa"] for row in read_metrics(out) if "dev_hpa" in row][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--world-seed", type=int, default=77, help="the sweep's")
    parser.add_argument("--variants", default="small-900,small-2700,large-900")
    parser.add_argument("--rate", type=float, default=3e-4)
    arguments = parser.parse_args()
    study = StudyPlan(arguments.sweep, 1, arguments.world_seed, size=SIZE)
    teacher = next(method for method in TRAINED if method.key == TEACHER)
    labelled = tasks.done(study, StudyTask("pool", "label", label="pool"))
    found = [dev_hpa(study, teacher, rate) for rate in RATES if is_done(study, teacher, rate)]
    if not found or not labelled:
        sys.exit(
            f"{arguments.sweep}: no teacher's targets; run benchmarks/sweep.py --methods {TEACHER},small-risd there first"
        )
    lines = [f"| teacher | {max(found):.3f} |"]
    for variant in arguments.variants.split(","):
        size, steps = variant.split("-")
        lines.append(f"| {size}, {steps} steps | {distil(study, size, int(steps), arguments.rate):.3f} |")
    print("\n".join(["| student | dev HPA |", "| --- | --- |", *lines]))


if __name__ == "__main__":
    main()
