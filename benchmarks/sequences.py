"""Is anything bound to one picture? Answers in words, and edits, by recipe: teacher, labels, student, against the base models.

    python benchmarks/sequences.py [--out runs/sequences] [--tasks text,edit] [--split test] [--seed 0]

For each task of the built-in world: data, a teacher (recipes/world-TASK-sft.yaml, from the large base model), its labels of the
unrated pool, a student (recipes/world-TASK-risd.yaml, from the small base model), and the HPA of all four models on a split that
shares no prompt with training. The base models are asked zero-shot, with the task's rubric. Differences: paired bootstrap over
prompts, 95 %. Choose options with --split dev; the test split is for one look. What is finished is kept.
Writes OUT/sequences-SPLIT.json and .md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from zreward.common.files import write_json, write_text
from zreward.common.runs import versions
from zreward.data import load_records
from zreward.evaluation.prediction import Predictions, metrics_table, predict
from zreward.evaluation.tables import POOLED
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world.reproduce.statistics import paired_interval, tally
from zreward.world.tasks import TASKS, make_task

RECIPES = Path(__file__).parents[1] / "recipes"
PAIRS = {"teacher": "large", "student": "small"}  # trained -> the base model that it started from


def make_models(task: str, out: Path, seed: int) -> dict[str, Path]:
    """Data, teacher, labels and student of a task; the folders of the four models. What is finished is kept."""
    data = out / task
    if not (data / "truth.jsonl").exists():
        make_task(task, data, seed)
    shared = [f"data.dev={data}/dev.parquet", f"seed={seed}"]
    teacher, student, targets = out / f"{task}-teacher", out / f"{task}-student", out / f"{task}-targets"
    given = [f"out={teacher}", f"data.train={data}/train.parquet", f"model.name={data}/large", *shared]
    train(load_recipe(RECIPES / f"world-{task}-sft.yaml", given), resume=(teacher / "recipe.yaml").exists())
    judge, pool = RewardModel.from_pretrained(teacher / "model"), load_records(data / "pool.parquet")
    label(judge, str(teacher / "model"), pool, targets, LabelOptions(reasoning=False, batch_size=64))
    given = [f"out={student}", f"data.train={data}/pool.parquet", f"data.targets={targets}", f"model.name={data}/small"]
    train(
        load_recipe(RECIPES / f"world-{task}-risd.yaml", [*given, *shared]), resume=(student / "recipe.yaml").exists()
    )
    bases = {name: data / name for name in PAIRS.values()}
    return bases | {"teacher": teacher / "model", "student": student / "model"}


def compare(task: str, out: Path, seed: int, split: str) -> dict[str, Any]:
    """Rows of metrics for each model, and what training gained."""
    began = time.perf_counter()
    folders = make_models(task, out, seed)
    records = load_records(out / task / f"{split}.parquet")
    said: dict[str, Predictions] = {}
    rows = []
    for name, folder in folders.items():
        said[name] = predict(RewardModel.from_pretrained(folder), records, batch_size=64, progress=False)
        rows += [{"task": task, "model": name} | row for row in metrics_table(said[name], records)]
    gains = {}
    for trained, base in PAIRS.items():
        found = paired_interval([tally(said[trained], records)], [tally(said[base], records)])
        gains[trained] = dict(zip(("difference", "low", "high"), found, strict=True))
    return {"rows": rows, "gains": gains, "seconds": time.perf_counter() - began}


def as_page(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: HPA of every model and dimension, and the gains."""
    lines = ["| task | model | dimension | HPA | PLCC | NLL |", "| --- | --- | --- | --- | --- | --- |"]
    for one in found.values():
        for row in one["rows"]:
            name = "all" if row["dimension"] == POOLED else row["dimension"]
            figures = f"{row['hpa']:.3f} | {row['plcc']:.3f} | {row['nll']:.3f}"
            lines.append(f"| {row['task']} | {row['model']} | {name} | {figures} |")
    lines += ["", "| task | model | HPA gained over its base model, points | 95 % |", "| --- | --- | --- | --- |"]
    for task, one in found.items():
        for name, gain in one["gains"].items():
            low, high = 100 * gain["low"], 100 * gain["high"]
            lines.append(f"| {task} | {name} | {100 * gain['difference']:+.1f} | {low:+.1f} to {high:+.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sequences"))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {task: compare(task, options.out, options.seed, options.split) for task in options.tasks.split(",")}
    page = as_page(found)
    write_text(options.out / f"sequences-{options.split}.md", page)
    facts = {"seed": options.seed, "threads": torch.get_num_threads(), "versions": versions()}
    write_json(options.out / f"sequences-{options.split}.json", {"facts": facts, "tasks": found})
    print(page)


if __name__ == "__main__":
    main()
