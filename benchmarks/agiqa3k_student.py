"""AGIQA-3K: does a student of half the depth keep what the mean of several models says?

    python benchmarks/agiqa3k_student.py ROOT [--out runs/agiqa3k-clip] [--seeds 0,1] [--split test] [--reuse] [key=value ...]

Teachers: recipes/agiqa3k-clip-smollm2.yaml, one training a seed, in the folders where benchmarks/agiqa3k_pretrained.py leaves
them. They label the training pictures, the mean of their targets is taken (`zreward average`), and
recipes/agiqa3k-clip-smollm2-student.yaml learns it by RISD; beside it the same student learns the ratings themselves (SFT).
Split and metrics are those of benchmarks/agiqa3k_pretrained.py. `cost`: CPU seconds of `score` on a picture and both
dimensions, the tower's pass with it, of one teacher and of the student, the fastest of rounds that take turns; a mean of S
teachers costs S times a teacher.
Writes OUT/student-SPLIT.json and .md.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from agiqa3k import DIMENSIONS, timed, train_recipe
from agiqa3k_pretrained import RECIPE, ROOT, Judge, answers, compare
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
MEAN, RISD, SFT = "mean of the teachers", "student, RISD", "student, SFT"
PICTURES, ROUNDS = 8, 5


def label_by(recipe: Recipe, records: list[Record], out: Path) -> Path:
    """The targets of a trained model, without reasoning."""
    model = RewardModel.from_pretrained(Path(recipe.out) / "model")
    model.backbone.requires_grad_(False)
    model.image_cache = ImageCache(str(recipe.model.image_cache), model)
    return label(model, recipe.out, records, out, LabelOptions(reasoning=False))


def cost_of(teacher: Recipe, student: Recipe, records: list[Record]) -> dict[str, float]:
    """CPU seconds a picture of both, nothing cached; and their ratio."""
    pictures, prompts = [record.open_image() for record in records], [record.prompt for record in records]
    models = {
        name: RewardModel.from_pretrained(Path(recipe.out) / "model")
        for name, recipe in (("teacher", teacher), ("student", student))
    }
    calls = {name: lambda model=model: model.score(pictures, prompts) for name, model in models.items()}
    with torch.no_grad():
        seconds = {name: one / len(records) for name, one in interleaved(calls, ROUNDS).items()}
    return seconds | {"teacher_over_student": seconds["teacher"] / seconds["student"]}


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
    data = import_agiqa3k(arguments.root, out)
    train, held_out = load_records(data, split="train"), load_records(data, split=arguments.split)
    check_disjoint(train, held_out)
    options = [f"data.train={data}", f"data.dev={data}", f"model.rubric={ROOT}/zreward/rubrics/agiqa3k.yaml"]
    options += [f"model.image_cache={out / 'features'}", *arguments.overrides]
    teachers = [load_recipe(RECIPE, [*options, f"seed={seed}", f"out={out}/run-{seed}"]) for seed in seeds]
    targets = out / "targets-mean"
    if not arguments.reuse:
        shutil.rmtree(targets, ignore_errors=True)
    students = {
        RISD: load_recipe(STUDENT, [*options, f"data.targets={targets}", f"out={out}/student-risd"]),
        SFT: load_recipe(STUDENT, [*options, "method=sft", "data.targets=null", f"out={out}/student-sft"]),
    }
    folders = []
    for recipe in (*teachers, *students.values()):
        if recipe is students[RISD]:
            average_targets(folders, targets)
        run = Path(recipe.out)
        timed(run / "minutes.json", arguments.reuse, lambda recipe=recipe, run=run: train_recipe(recipe, run))
        if recipe in teachers:
            folders.append(label_by(recipe, train, run / "targets"))

    scale = Rubric.from_yaml(ROOT / "zreward" / "rubrics" / "agiqa3k.yaml").scale
    bins = scale.bins.double().numpy()
    found = {name: answers(recipe, held_out) for name, recipe in students.items()}
    each = [answers(recipe, held_out) for recipe in teachers]
    found |= {MEAN: np.mean(each, 0)} | {f"teacher, seed {seed}": one for seed, one in zip(seeds, each, strict=True)}
    judges = [Judge(name, probs_NDS @ bins, probs_NDS, held_out, scale) for name, probs_NDS in found.items()]
    rows, table = compare(judges)
    cost = cost_of(teachers[0], students[RISD], held_out[:PICTURES])
    about = (
        f"{len(held_out)} pictures of {len({record.prompt for record in held_out})} held-out prompts ({arguments.split}), "
        f"{len(DIMENSIONS)} dimensions, {len(seeds)} teachers; CPU seconds a picture: a teacher {cost['teacher']:.2f}, the "
        f"student {cost['student']:.2f} ({cost['teacher_over_student']:.1f} times), {torch.get_num_threads()} threads"
    )
    file = out / f"student-{arguments.split}"
    write_json(file.with_suffix(".json"), {"about": about, "versions": versions(), "rows": rows, "cost": cost})
    write_text(file.with_suffix(".md"), f"{about}\n\n{table}")
    print(f"{about}\n\n{table}")


if __name__ == "__main__":
    main()
