"""AGIQA-3K: does a smaller student keep what the mean of several models says?

    python benchmarks/agiqa3k_student.py ROOT [--out runs/agiqa3k-clip] [--seeds 0,1] [--split test] [--reuse] [key=value ...]

Teachers: recipes/agiqa3k-clip-smollm2.yaml, one training a seed; with --reuse those that benchmarks/agiqa3k_pretrained.py left in
OUT. They label the training pictures, and the mean of their targets is taken (`zreward average`). Two students learn it by RISD:
recipes/agiqa3k-clip-smollm2-student.yaml, with half of the language layers, and the same with half of the tower, too. Beside
each the same student learns the ratings themselves (SFT). Split and metrics are those of benchmarks/agiqa3k_pretrained.py.
Cost: CPU seconds of `score` on a picture and both dimensions, the tower's pass with it, the fastest of rounds that take
turns; a mean of S teachers costs S times a teacher. Where benchmarks/agiqa3k_pretrained.py has left the pictures' statistics in
OUT, ridge regression on them stands beside. Writes OUT/student-SPLIT.json and .md.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agiqa3k import DIMENSIONS, timed, train_recipe
from agiqa3k_pretrained import PEERS, RECIPE, ROOT, Judge, answers, compare, ridge_answers
from timing import interleaved

from zreward.common.files import write_json, write_text
from zreward.common.runs import versions
from zreward.data import Record, check_disjoint, import_agiqa3k, load_records
from zreward.models.image_cache import ImageCache
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.training.averaged_targets import average_targets
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.targets import LabelOptions, label

STUDENT = ROOT / "recipes" / "agiqa3k-clip-smollm2-student.yaml"
MEAN, HALF, WHOLE = "mean of the teachers", "half of the tower", "whole tower"
PICTURES, ROUNDS = 8, 5


def label_by(recipe: Recipe, records: list[Record], out: Path) -> Path:
    """The targets of a trained model, without reasoning."""
    model = RewardModel.from_pretrained(Path(recipe.out) / "model")
    model.backbone.requires_grad_(False)
    model.image_cache = ImageCache(str(recipe.model.image_cache), model)
    return label(model, recipe.out, records, out, LabelOptions(reasoning=False))


def train_once(recipe: Recipe, reuse: bool) -> float:
    """Minutes that it took."""
    run = Path(recipe.out)
    return timed(run / "minutes.json", reuse, lambda: train_recipe(recipe, run))


def ridges(out: Path, data: Path, train: list[Record], held_out: list[Record], scale: Any) -> list[Judge]:
    """Of the statistics that are there."""
    row_of = {str(record.image): number for number, record in enumerate(load_records(data, check_images=None))}
    seen, held = ([row_of[str(record.image)] for record in side] for side in (train, held_out))
    known = {peer: np.load(out / file) for peer, file in PEERS.items() if (out / file).exists()}
    bins = scale.bins.double().numpy()
    found = {peer: ridge_answers(train, x[seen], x[held], bins) for peer, x in known.items()}
    return [Judge(peer, scores, probs, held_out, scale) for peer, (scores, probs) in found.items()]


def students_of(teacher: Recipe, options: list[str], out: Path, targets: Path) -> dict[str, dict[str, Recipe]]:
    """By how much of the tower they have, and by method."""
    layers = teacher.model.compose.layers
    half = max(layers) // 2
    kept = [layer for layer in layers if layer <= half]
    towers = {WHOLE: [], HALF: [f"model.compose.vision_layers={half}", f"model.compose.layers={kept}"]}
    methods = {"RISD": [f"data.targets={targets}"], "SFT": ["method=sft", "data.targets=null"]}
    return {
        tower: {
            method: load_recipe(STUDENT, [*options, *changed, *more, f"out={out}/student-{tower.split()[0]}-{method}"])
            for method, more in methods.items()
        }
        for tower, changed in towers.items()
    }


def cost_of(recipes: dict[str, Recipe], records: list[Record]) -> dict[str, float]:
    """CPU seconds a picture, nothing cached."""
    pictures, prompts = [record.open_image() for record in records], [record.prompt for record in records]
    models = {name: RewardModel.from_pretrained(Path(recipe.out) / "model") for name, recipe in recipes.items()}
    calls = {name: lambda model=model: model.score(pictures, prompts) for name, model in models.items()}
    return {name: seconds / len(records) for name, seconds in interleaved(calls, ROUNDS).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="AGIQA-3K: data.csv and images/")
    parser.add_argument(
        "overrides", nargs="*", help="key=value of all recipes, for example model.compose.vision=FOLDER"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/agiqa3k-clip"))
    parser.add_argument("--seeds", default="0,1", help="of the teachers; the student has the recipe's")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="evaluated on; choose options on dev")
    parser.add_argument("--reuse", action="store_true", help="evaluate what an earlier command trained")
    arguments = parser.parse_intermixed_args()

    out, seeds = arguments.out, [int(seed) for seed in arguments.seeds.split(",")]
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        parser.error(f"--seeds {arguments.seeds}: expected two or more different seeds, such as 0,1")
    data = import_agiqa3k(arguments.root, out)
    train, held_out = load_records(data, split="train"), load_records(data, split=arguments.split)
    check_disjoint(train, held_out)
    options = [f"data.train={data}", f"data.dev={data}", f"model.rubric={ROOT}/zreward/rubrics/agiqa3k.yaml"]
    options += [f"model.image_cache={out / 'features'}", *arguments.overrides]
    teachers = [load_recipe(RECIPE, [*options, f"seed={seed}", f"out={out}/run-{seed}"]) for seed in seeds]
    targets = out / "targets-mean"
    if not arguments.reuse:
        shutil.rmtree(targets, ignore_errors=True)
    minutes = [train_once(recipe, arguments.reuse) for recipe in teachers]
    average_targets([label_by(recipe, train, Path(recipe.out) / "targets") for recipe in teachers], targets)
    students = students_of(teachers[0], options, out, targets)
    for methods in students.values():
        minutes += [train_once(recipe, arguments.reuse) for recipe in methods.values()]

    scale = Rubric.from_yaml(ROOT / "zreward" / "rubrics" / "agiqa3k.yaml").scale
    bins = scale.bins.double().numpy()
    each = {f"teacher, seed {seed}": answers(recipe, held_out) for seed, recipe in zip(seeds, teachers, strict=True)}
    each = {MEAN: np.mean(list(each.values()), 0)} | each

    def judges(found: dict[str, np.ndarray]) -> list[Judge]:
        return [Judge(name, probs_NDS @ bins, probs_NDS, held_out, scale) for name, probs_NDS in found.items()]

    peers = [*judges(each), *ridges(out, data, train, held_out, scale)]
    rows, tables = {}, []
    for tower, methods in students.items():
        found = judges({f"student, {method}": answers(recipe, held_out) for method, recipe in methods.items()})
        rows[tower], table = compare([*found, *peers])
        tables.append(f"Students, {tower}:\n\n{table}")
    rows[MEAN], table = compare(peers)
    tables.append(f"Without students:\n\n{table}")
    cost = cost_of(
        {"a teacher": teachers[0]} | {f"student, {t}": m["RISD"] for t, m in students.items()}, held_out[:PICTURES]
    )
    about = (
        f"{len(held_out)} pictures of {len({record.prompt for record in held_out})} held-out prompts ({arguments.split}), "
        f"{len(seeds)} teachers; CPU seconds a picture and {len(DIMENSIONS)} dimensions: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in cost.items())
        + f"; minutes of training {', '.join(f'{one:.1f}' for one in minutes)}; {torch.get_num_threads()} threads"
    )
    file = out / f"student-{arguments.split}"
    write_json(file.with_suffix(".json"), {"about": about, "versions": versions(), "rows": rows, "cost": cost})
    text = "\n".join([f"{about}\n", *tables])
    write_text(file.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
