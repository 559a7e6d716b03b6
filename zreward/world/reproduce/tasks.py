"""Doing one task of the plan, in a folder of its own. A finished task is known by its last file and is not done again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from zreward.common.files import write_json
from zreward.data import load_records, save_records
from zreward.evaluation.prediction import Predictions, predict
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world.base_models import load_base, world_rubric
from zreward.world.dataset import make_world
from zreward.world.reproduce.plan import CHAINS, LABELS, TEACHER, Labelling, StudyMethod, StudyPlan, StudyTask
from zreward.world.settings import DIRECT_BATCH, REASONING_BATCH, TEMPERATURE, recipe_file

CURVE_POINTS = 8  # measurements on dev prompts in a training


def done(study: StudyPlan, task: StudyTask) -> bool:
    return _last_file(study, task).exists()


def perform(study: StudyPlan, task: StudyTask) -> None:
    {"data": _data, "train": _train, "label": _label, "predict": _predict}[task.kind](study, task)


def run_folder(study: StudyPlan, method: StudyMethod, seed: int) -> Path:
    return study.out / "runs" / f"{method.key}-{seed}"


def prediction_file(study: StudyPlan, method: StudyMethod, seed: int) -> Path:
    """Base models asked directly say the same for every seed."""
    if method.recipe is None and not method.reasoning:
        seed = 0
    return study.out / "predictions" / f"{method.key}-{seed}.json"


def load_prediction(study: StudyPlan, method: StudyMethod, seed: int) -> Predictions:
    """What a method said about the test set."""
    import torch

    stored = json.loads(prediction_file(study, method, seed).read_text())
    tensors = {name: torch.tensor(stored[name]) for name in ("probs", "bins", "output_tokens", "truncated")}
    facts: dict[str, Any] = {name: stored[name] for name in ("seconds", "compares")}
    return Predictions(dimensions=tuple(stored["dimensions"]), **facts | tensors)


def _last_file(study: StudyPlan, task: StudyTask) -> Path:
    if task.kind == "data":
        return study.out / "data" / "panel.json"
    if task.kind == "label":
        return study.out / "targets" / f"{task.label}-{task.seed}" / "done.json"
    assert task.method is not None
    if task.kind == "train":
        return run_folder(study, task.method, task.seed) / "model" / "zreward.json"
    return prediction_file(study, task.method, task.seed)


def _data(study: StudyPlan, task: StudyTask) -> None:
    make_world(study.out / "data", study.world_seed, study.size, study.dimensions)


def _train(study: StudyPlan, task: StudyTask) -> None:
    recipe = study_recipe(study, task)
    train(recipe, resume=(Path(recipe.out) / "recipe.yaml").exists())


def study_recipe(study: StudyPlan, task: StudyTask) -> Recipe:
    """The shipped recipe with the method's rate and steps, then the overrides; the study's data, seed, dimensions and folders."""
    method, data_folder = task.method, study.out / "data"
    assert method is not None and method.recipe is not None
    chosen = {"learning_rate": method.rate, "steps": method.steps}
    own = [f"optimizer.{key}={value}" for key, value in chosen.items() if value is not None]
    recipe = load_recipe(recipe_file(method.recipe), (*own, *study.overrides))
    train_file, targets = data_folder / ("pool.parquet" if recipe.method == "opd" else "train.parquet"), None
    if method.targets is not None:
        train_file = _labelled_file(study, LABELS[method.targets])
        seed = 0 if method.targets == CHAINS else task.seed
        targets = str(study.out / "targets" / f"{method.targets}-{seed}")
    data = replace(
        recipe.data,
        train=str(train_file),
        dev=str(data_folder / "dev.parquet"),
        dev_records=study.size.dev[0] * study.size.dev[1],
        dimensions=list(study.dimensions),
        targets=targets,
    )
    rollout = recipe.rollout
    if recipe.method == "opd":
        rollout = replace(rollout, teacher=str(study.out / "runs" / f"{TEACHER}-{task.seed}" / "model"))
    optimizer = recipe.optimizer
    if recipe.data.group_dimensions:  # as many rows a step when an image brings fewer dimensions
        images = optimizer.batch_size * len(world_rubric().dimensions) // len(study.dimensions)
        optimizer = replace(optimizer, batch_size=images)
    return replace(
        recipe,
        out=str(run_folder(study, method, task.seed)),
        seed=task.seed,
        data=data,
        model=replace(recipe.model, name=f"world:{method.size}"),
        optimizer=optimizer,
        rollout=rollout,
        eval_every=max(1, optimizer.steps // CURVE_POINTS) if method.has_curve else 0,
    )


def _labelled_file(study: StudyPlan, labelling: Labelling) -> Path:
    """The records that a label task writes targets for: a split, or a file with its first ones."""
    first = "" if labelling.records is None else f"-{labelling.records}"
    return study.out / "data" / f"{labelling.split}{first}.parquet"


def _label(study: StudyPlan, task: StudyTask) -> None:
    assert task.label is not None
    labelling = LABELS[task.label]
    folder = study.out / "targets" / f"{task.label}-{task.seed}"
    if task.label == CHAINS:
        name, model = "world:large", load_base("large")
    else:
        name = str(study.out / "runs" / f"{TEACHER}-{task.seed}" / "model")
        model = RewardModel.from_pretrained(name)
    options = LabelOptions(
        labelling.traces,
        study.dimensions,
        TEMPERATURE if name != "world:large" else 1.0,
        labelling.reasoning,
        task.seed,
        batch_size=max(1, REASONING_BATCH // labelling.traces),
    )
    file = _labelled_file(study, labelling)
    if labelling.records is not None and not file.exists():
        save_records(load_records(study.out / "data" / f"{labelling.split}.parquet")[: labelling.records], file)
    label(model, name, load_records(file), folder, options)
    write_json(folder / "done.json", {"traces": labelling.traces})


def _predict(study: StudyPlan, task: StudyTask) -> None:
    method = task.method
    assert method is not None
    if method.recipe is None:
        model = load_base(method.size)
    else:
        model = RewardModel.from_pretrained(run_folder(study, method, task.seed) / "model")
    records = load_records(study.out / "data" / "test.parquet")
    found = predict(
        model,
        records,
        list(study.dimensions),
        reasoning=method.reasoning,
        batch_size=REASONING_BATCH if method.reasoning else DIRECT_BATCH,
        seed=task.seed,
        temperature=TEMPERATURE,
    )
    stored: dict[str, Any] = {
        "dimensions": list(found.dimensions),
        "seconds": found.seconds,
        "compares": found.compares,
    }
    for name in ("probs", "bins", "output_tokens", "truncated"):
        stored[name] = getattr(found, name).tolist()
    write_json(prediction_file(study, method, task.seed), stored)
