"""Which learning rate each method of the comparison wants, on dev prompts of a world that is used for nothing else.

    python benchmarks/sweep.py [--world-seed 77] [--dimensions alignment] [--jobs 2] [--out runs/sweep]
        [--methods large-gdso,...] [--rates 3e-5,1e-4,3e-4] [--pool 10400] [recipe.key=value ...]

Every method gets the same budget: the comparison's steps and roll-outs, three rates, one seed. RISD's three are a step
higher: its targets are many and smooth. The teacher of RISD and OPD is the best GDSO run found here. Writes
OUT/sweep.md: the dev HPA at the end of every run. What is done already is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from zreward.common.files import write_text
from zreward.common.runs import read_metrics
from zreward.training.run import train
from zreward.world.dataset import WorldSize
from zreward.world.reproduce import tasks
from zreward.world.reproduce.plan import CHAINS, METHODS, TEACHER, TEST_SIZE, StudyMethod, StudyPlan, StudyTask
from zreward.world.reproduce.runner import threads_each

RATES = (3e-5, 1e-4, 3e-4)
STUDENT_RATES = (1e-4, 3e-4, 1e-3)
SIZE = WorldSize(dev=(250, 4), pool=TEST_SIZE.pool, test=(2, 2))
LATE = ("opd", "risd")  # they need a teacher
TRAINED = [method for method in METHODS if method.recipe is not None]


def run_folder(study: StudyPlan, method: StudyMethod, rate: float) -> Path:
    return study.out / "rates" / f"{method.key}-{rate:g}"


def is_done(study: StudyPlan, method: StudyMethod, rate: float) -> bool:
    return (run_folder(study, method, rate) / "model" / "zreward.json").exists()


def run_one(study: StudyPlan, name: str, rate: float) -> None:
    """Train one method at one rate, with a dev curve of two ends; or label: the pool, the chains."""
    if name in ("pool", CHAINS):
        tasks.perform(study, StudyTask(name, "label", label=name))
        return
    method = next(method for method in TRAINED if method.key == name)
    recipe = tasks.study_recipe(study, StudyTask(name, "train", method=replace(method, rate=rate)))
    out = run_folder(study, method, rate)
    train(replace(recipe, out=str(out), eval_every=recipe.optimizer.steps), resume=(out / "recipe.yaml").exists())


def run_all(study: StudyPlan, work: Iterable[tuple[str, float]], jobs: int) -> None:
    """Each in a process of its own, `jobs` side by side."""
    threads = str(threads_each(jobs))

    def run(name: str, rate: float) -> None:
        print(f"{name} {rate:g}", flush=True)
        with (study.out / "logs" / f"{name}-{rate:g}.log").open("w") as log:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--rate", str(rate)]
            environment = os.environ | {"OMP_NUM_THREADS": threads}
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda item: run(*item), work))


def dev_hpa(study: StudyPlan, method: StudyMethod, rate: float) -> float:
    return [row["dev_hpa"] for row in read_metrics(run_folder(study, method, rate)) if "dev_hpa" in row][-1]


def prepare_teacher(study: StudyPlan, rates: Sequence[float]) -> None:
    """The best GDSO run found so far becomes the teacher, and labels the pool."""
    teacher = next(method for method in TRAINED if method.key == TEACHER)
    place = tasks.run_folder(study, teacher, 0) / "model"
    if not place.exists():
        finished = [rate for rate in rates if is_done(study, teacher, rate)]
        if not finished:
            sys.exit(f"RISD and OPD need a teacher: run with --methods {TEACHER} first")
        best = max(finished, key=lambda rate: dev_hpa(study, teacher, rate))
        shutil.copytree(run_folder(study, teacher, best) / "model", place)
    if not tasks.done(study, StudyTask("pool", "label", label="pool")):
        run_all(study, [("pool", 0.0)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world-seed", type=int, default=77)
    parser.add_argument("--dimensions", default="alignment", help="names with commas between")
    parser.add_argument("--rates", help="the same for every method, with commas between")
    parser.add_argument("--methods", help="keys such as large-gdso, with commas between; default: all")
    parser.add_argument("--pool", type=int, default=SIZE.pool[0], help="prompts of the pool, two pictures each")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    parser.add_argument("overrides", nargs="*", help="recipe keys, such as rollout.beta=0.3 (with another --out)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    dimensions = tuple(arguments.dimensions.split(","))
    size = replace(SIZE, pool=(arguments.pool, 2))
    study = StudyPlan(
        arguments.out, 1, arguments.world_seed, dimensions, overrides=tuple(arguments.overrides), size=size
    )
    if arguments.one:
        run_one(study, arguments.one, arguments.rate)
        return
    given = [float(text) for text in arguments.rates.split(",")] if arguments.rates else None
    chosen = [m for m in TRAINED if arguments.methods is None or m.key in arguments.methods.split(",")]
    rates = {method.key: given or (STUDENT_RATES if method.name == "risd" else RATES) for method in chosen}
    for name in ("logs", "rates"):
        (study.out / name).mkdir(parents=True, exist_ok=True)
    data = StudyTask("data", "data", study.world_seed)
    if not tasks.done(study, data):
        tasks.perform(study, data)
    if any(m.targets == CHAINS for m in chosen) and not tasks.done(study, StudyTask(CHAINS, "label", label=CHAINS)):
        run_all(study, [(CHAINS, 0.0)], 1)
    for late in (False, True):
        of_turn = [method for method in chosen if (method.name in LATE) == late]
        if late and of_turn:
            prepare_teacher(study, given or RATES)
        todo = [(m.key, rate) for m in of_turn for rate in rates[m.key] if not is_done(study, m, rate)]
        run_all(study, todo, arguments.jobs)
    columns = sorted({rate for found in rates.values() for rate in found})
    lines = ["| method | steps | " + " | ".join(f"{rate:g}" for rate in columns) + " |"]
    lines.append("| --- " * (len(columns) + 2) + "|")
    for method in chosen:
        steps = tasks.study_recipe(study, StudyTask("", "train", method=method)).optimizer.steps
        cells = [f"{dev_hpa(study, method, r):.3f}" if is_done(study, method, r) else "" for r in columns]
        lines.append(f"| {method.key} | {steps} | {' | '.join(cells)} |")
    write_text(study.out / "sweep.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
