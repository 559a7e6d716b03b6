"""What a dry run checks: data, pictures, dimensions, labels, targets and the run's folder, without training.

A small model (random weights, or up to 1 GiB on disk) is loaded as training would load it. For a larger one, or one that is
not on this machine, random weights with the recipe's rubric are used instead, and its tokenizer is not checked.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import torch
from transformers import TrainingArguments

from zreward.common.errors import InputError, shown
from zreward.common.runs import RunDirectory
from zreward.data import open_records
from zreward.models.checkpoint import META_FILE
from zreward.models.compose import NAME as COMPOSE
from zreward.models.devices import find_dtype
from zreward.models.dry_checks import check_free, is_small
from zreward.models.names import find_model
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import PREFIX, ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe, notes_of
from zreward.training.run import build_trainer, load_model, training_source

TINY = ScratchSpec(
    hidden_size=32, intermediate_size=32, heads=1, layers=1, vision_hidden_size=32, vision_layers=1, vision_heads=1
)


def check_inputs(recipe: Recipe) -> list[str]:
    """Sentences about what was checked. Raises the InputError that training would start with."""
    run = Path(recipe.out)
    check_free(run)
    _check_trainer(recipe)
    name = recipe.model.name
    real = name.startswith(PREFIX) or (name != COMPOSE and is_small(name))
    model = load_model(_plain(recipe)) if real else _stand_in(recipe)
    return [
        _build(recipe, model, real),
        f"rubric {model.rubric.name!r} with {', '.join(model.rubric.dimension_names)}: "
        + (
            f"every label is one token of {recipe.model.name}"
            if real
            else f"the tokenizer of {recipe.model.name} was not checked"
        ),
        f"{run}: free, and can be written",
        *notes_of(recipe),
    ]


def _build(recipe: Recipe, model: RewardModel, real: bool) -> str:
    """Let training itself read and check its data, into a folder that goes away."""
    recipe = _plain(recipe)
    with tempfile.TemporaryDirectory() as folder:
        if real:
            items = len(build_trainer(recipe, RunDirectory(Path(folder)), model).train_dataset)  # type: ignore[arg-type]
        elif recipe.rollout.teacher is not None:  # it is not loaded
            records = open_records(
                training_source(recipe.data), model.rubric, skip_bad=recipe.data.skip_bad, split=recipe.data.train_split
            )
            items = len(records) * len(model.check_dimensions(recipe.data.dimensions))
        else:
            ends = (model.rubric.labels[0], model.rubric.labels[-1])  # the stand-in has no word for yes and no
            asked = replace(
                recipe.comparison, negative=ends[0], positive=ends[1], answer_prefix=model.forms.answer_prefix
            )
            recipe = replace(recipe, comparison=asked)
            items = len(build_trainer(recipe, RunDirectory(Path(folder)), model).train_dataset)  # type: ignore[arg-type]
    what = find_method(recipe.method).unit
    data = recipe.data
    read = [str(path) for path in (data.train, data.rated, data.preferences, data.dev, data.targets) if path]
    return f"{', '.join(read)}: read, every picture opened; {items:,} {what} to train on"


def _plain(recipe: Recipe) -> Recipe:
    """Without what only the real machine has: number formats, GPUs, trackers."""
    model = replace(recipe.model, dtype=None, quantization=None, attn_implementation=None)
    return replace(recipe, model=model, trainer={}, report_to=[])


def _stand_in(recipe: Recipe) -> RewardModel:
    wanted = recipe.model
    if wanted.rubric:
        rubric = Rubric.from_yaml(wanted.rubric)
    else:
        rubric = Rubric.default() if wanted.name == COMPOSE else _rubric_of(Path(find_model(wanted.name)))
    resolution = ResolutionPolicy(wanted.longest_side, wanted.pixel_budget)
    return make_scratch("qwen3_5", TINY, [], rubric, resolution)


def _rubric_of(folder: Path) -> Rubric:
    """The rubric that a local checkpoint records; the default one where it records none."""
    file = folder / META_FILE
    if not file.is_file():
        return Rubric.default()
    try:
        return Rubric.from_dict(json.loads(file.read_text(encoding="utf-8"))["rubric"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}); write the checkpoint again") from None


def _check_trainer(recipe: Recipe) -> None:
    """Names that no machine knows: of number formats, quantisation, and the trainer's options."""
    find_dtype(recipe.model.dtype, torch.device("cpu"))
    if recipe.model.quantization not in (None, "4bit", "8bit"):
        raise InputError(f"recipe: model.quantization is {shown(recipe.model.quantization)}; expected 4bit or 8bit")
    known = {item.name for item in fields(TrainingArguments)}
    unknown = [name for name in recipe.trainer if name not in known]
    if unknown:
        raise InputError(f"recipe: trainer.{unknown[0]} is no option of transformers.TrainingArguments")
