"""Which learning rate each method of the comparison wants, on dev prompts of a world that is used for nothing else.

    python benchmarks/sweep.py [--world-seed 77] [--dimensions alignment] [--factors 0.1,0.3,1,3] [--jobs 2] [--out runs/sweep]
        [--methods large-gdso,...] [--pool 5200] [recipe.key=value ...]

Every method gets the same budget: its recipe's steps and roll-outs, the same number of rates (the recipe's times each
factor), one seed. The teacher of RISD and OPD is the best GDSO run found here. Writes OUT/sweep.md: the dev HPA at the end
of every run. What is done already is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from zreward.files import write_text
from zreward.reproduce import tasks
from zreward.reproduce.plan import CHAINS, METHODS, TEACHER, TEST_SIZE, Method, Study, Task
from zreward.reproduce.runner import threads_each
from zreward.runs import read_metrics
from zreward.training.run import train
from zreward.world.dataset import WorldSize

SIZE = WorldSize(dev=(250, 4), pool=TEST_SIZE.pool, test=(2, 2))
LATE = ("opd", "risd")  # they need a teacher
TRAINED = [replace(method, rate=None) for method in METHODS if method.recipe is not None]


def run_folder(study: Study, method: Method, factor: float) -> Path:
    return study.out / "rates" / f"{method.key}-{factor:g}"


def run_one(study: Study, name: str, factor: float) -> None:
    """Train one method at one rate, with a dev curve of two ends; or label: the pool, the chains."""
    if name in ("pool", CHAINS):
        tasks.perform(study, Task(name, "label", label=name))
        return
    method = next(method for method in TRAINED if method.key == name)
    recipe = tasks.study_recipe(study, Task(name, "train", method=method))
    optimizer = replace(recipe.optimizer, learning_rate=recipe.optimizer.learning_rate * factor)
    out = run_folder(study, method, factor)
    recipe = replace(recipe, out=str(out), optimizer=optimizer, eval_every=optimizer.steps)
    train(recipe, resume=(out / "recipe.yaml").exists())


def run_all(study: Study, work: Iterable[tuple[str, float]], jobs: int) -> None:
    """Each in a process of its own, `jobs` side by side."""
    threads = str(threads_each(jobs))

    def run(name: str, factor: float) -> None:
        print(f"{name} at {factor:g} times its rate", flush=True)
        with (study.out / "logs" / f"{name}-{factor:g}.log").open("w") as log:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--factor", str(factor)]
            environment = os.environ | {"OMP_NUM_THREADS": threads}
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda item: run(*item), work))


def dev_hpa(study: Study, method: Method, factor: float) -> float:
    return [row["dev_hpa"] for row in read_metrics(run_folder(study, method, factor)) if "dev_hpa" in row][-1]


def finished(study: Study, method: Method) -> list[float]:
    """The factors at which a method is trained already, in this run of the sweep or an earlier one."""
    return [
        float(folder.parent.name.rsplit("-", 1)[1])
        for folder in (study.out / "rates").glob(f"{method.key}-[0-9]*/model")
    ]


def missing(study: Study, methods: Iterable[Method], factors: Iterable[float]) -> list[tuple[str, float]]:
    wanted = [(method, factor) for method in methods for factor in factors]
    return [(m.key, f) for m, f in wanted if not (run_folder(study, m, f) / "model" / "zreward.json").exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world-seed", type=int, default=77)
    parser.add_argument("--dimensions", default="alignment", help="names with commas between")
    parser.add_argument("--factors", default="0.1,0.3,1,3", help="of each recipe's learning rate")
    parser.add_argument("--methods", help="keys such as large-gdso, with commas between; default: all")
    parser.add_argument("--pool", type=int, default=SIZE.pool[0], help="prompts of the pool, two pictures each")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    parser.add_argument("overrides", nargs="*", help="recipe keys, such as rollout.beta=0.3 (with another --out)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--factor", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    dimensions = tuple(arguments.dimensions.split(","))
    size = replace(SIZE, pool=(arguments.pool, 2))
    study = Study(arguments.out, 1, arguments.world_seed, dimensions, overrides=tuple(arguments.overrides), size=size)
    if arguments.one:
        run_one(study, arguments.one, arguments.factor)
        return
    factors = [float(text) for text in arguments.factors.split(",")]
    chosen = [m for m in TRAINED if arguments.methods is None or m.key in arguments.methods.split(",")]
    for name in ("logs", "rates"):
        (study.out / name).mkdir(parents=True, exist_ok=True)
    data = Task("data", "data", study.world_seed)
    if not tasks.done(study, data):
        tasks.perform(study, data)
    labels = [] if tasks.done(study, Task(CHAINS, "label", label=CHAINS)) else [(CHAINS, 1.0)]
    if any(method.targets == CHAINS for method in chosen):
        run_all(study, labels, 1)
    run_all(study, missing(study, [m for m in chosen if m.name not in LATE], factors), arguments.jobs)
    late = [method for method in chosen if method.name in LATE]
    if late:
        teacher = next(method for method in TRAINED if method.key == TEACHER)
        place = tasks.run_folder(study, teacher, 0) / "model"
        if not place.exists():
            best = max(finished(study, teacher), key=lambda factor: dev_hpa(study, teacher, factor))
            shutil.copytree(run_folder(study, teacher, best) / "model", place)
        if not tasks.done(study, Task("pool", "label", label="pool")):
            run_all(study, [("pool", 1.0)], 1)
        run_all(study, missing(study, late, factors), arguments.jobs)
    lines = ["| method | steps | " + " | ".join(f"rate x {factor:g}" for factor in factors) + " |"]
    lines.append("| --- " * (len(factors) + 2) + "|")
    for method in chosen:
        recipe = tasks.study_recipe(study, Task("", "train", method=method))
        cells = [
            f"{dev_hpa(study, method, factor):.3f} ({recipe.optimizer.learning_rate * factor:.1e})"
            for factor in factors
        ]
        lines.append(f"| {method.key} | {recipe.optimizer.steps} | {' | '.join(cells)} |")
    write_text(study.out / "sweep.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
