"""How a run starts and goes on: what is in its folder, what it was made from, and whether it is finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from zreward.config import config_from_dict
from zreward.data import Record
from zreward.data.fingerprint import records_fingerprint
from zreward.errors import InputError
from zreward.files import file_digest, write_json, write_text
from zreward.models.fingerprint import model_fingerprint, short_digest
from zreward.models.reward_model import RewardModel
from zreward.runs import INPUTS, RECIPE, differences, is_in_use, refuse_differences, say, versions
from zreward.training.recipe import Recipe
from zreward.yaml_text import read_yaml


def check_folder(run: Path, recipe: Recipe, resume: bool) -> None:
    """InputError for a run directory in use, or with `resume` for one that was started with another recipe or not at all."""
    if not resume:
        if is_in_use(run):
            state = "holds a finished run" if is_finished(run) else "is not empty"
            raise InputError(f"{run} {state}; add --resume to go on with it, or choose another out=")
        return
    config = run / RECIPE
    if not config.exists():
        raise InputError(f"{run}: nothing to resume, there is no {RECIPE}; run without --resume first")
    stored = config_from_dict(Recipe, read_yaml(config), str(config)).to_dict()
    now = recipe.to_dict()
    for facts in (stored, now):
        del facts["out"]  # a folder may be moved
    refuse_differences(f"{run} was started with another recipe", stored, now, "resume with the same one")


def is_finished(run: Path) -> bool:
    """The final model is written last, as a whole."""
    return (run / "model" / "zreward.json").exists()


def inputs_of(
    recipe: Recipe, model: RewardModel, train: Sequence[Record], dev: Sequence[Record], teacher: RewardModel | None
) -> dict[str, Any]:
    """Digests of everything that a run reads, under the recipe's keys. `model` as it is before the first step."""
    facts: dict[str, Any] = {
        "data": {"train": records_fingerprint(train, ratings=True)},
        "model": model_fingerprint(model, adapters=not recipe.model.lora_rank),
    }
    if dev:
        facts["data"]["dev"] = records_fingerprint(dev, ratings=True)
    if recipe.data.targets:
        shards = sorted(Path(recipe.data.targets).glob("*.parquet"))
        facts["data"]["targets"] = short_digest([file_digest(shard) for shard in shards])
    if teacher is not None:
        facts["rollout"] = {"teacher": model_fingerprint(teacher)}
    return facts


def start(run: Path, recipe: Recipe, inputs: dict[str, Any]) -> None:
    """The first files of a run, the recipe last: without it, the folder counts as empty."""
    write_json(run / "versions.json", versions())
    write_json(run / INPUTS, inputs)
    write_text(run / RECIPE, yaml.safe_dump(recipe.to_dict(), sort_keys=False))


def check_inputs(run: Path, inputs: dict[str, Any]) -> None:
    """InputError where a run would go on with other data or weights than it began with.

    Runs of older versions did not write theirs down: they go on, and say so.
    """
    file = run / INPUTS
    if not file.exists():
        say(f"{run} was started by an older zreward, which did not record its data and weights: they cannot be checked")
        return
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        _ = differences(stored, {})
    except (ValueError, AttributeError):
        raise InputError(f"{file} is damaged; start again in another folder") from None
    advice = "bring the old inputs back, or start again with another out="
    refuse_differences(f"{run} was started with other inputs", stored, inputs, advice)
