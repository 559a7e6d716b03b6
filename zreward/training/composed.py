"""A recipe's model of pretrained parts: composed once into the run's folder, from which training loads it like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from zreward.common.runs import BASE
from zreward.data import open_records
from zreward.data.images import ImageSource
from zreward.models.checkpoint_files import META_FILE
from zreward.models.compose import compose
from zreward.models.devices import find_dtype
from zreward.models.layouts import layout_of
from zreward.models.reward_model import RewardModel
from zreward.models.tower import pool_images
from zreward.rubric import Rubric
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe

PICTURES = 64
"""From which the projector's first weights take their scale."""


def composed(recipe: Recipe) -> Path:
    """OUT/base, made by the first process where it is not there yet. The projector's weights depend on the recipe's seed alone.

    Raises InputError for parts that are missing or do not fit.
    """
    folder, wanted = Path(recipe.out) / BASE, recipe.model
    with PartialState().main_process_first(), torch.random.fork_rng():
        if not (folder / META_FILE).exists():
            torch.manual_seed(recipe.seed)
            rubric = Rubric.from_yaml(wanted.rubric) if wanted.rubric else None
            dtype = find_dtype(wanted.dtype or "float32", torch.device("cpu"))
            compose(wanted.compose, folder, rubric, wanted.image_pool or 1, dtype, _some_pictures(recipe))
    return folder


def _some_pictures(recipe: Recipe) -> list[ImageSource]:
    """Of all parts of data.train, which may be sorted by what made them."""
    data = recipe.data
    if find_method(recipe.method).prefers:
        return []
    records = open_records(data.train, skip_bad=data.skip_bad, split=data.train_split)[: data.train_records]
    chosen = range(0, len(records), max(1, len(records) // PICTURES))[:PICTURES]
    return [picture for number in chosen for picture in records[number].pictures]


def pool(model: RewardModel, size: int) -> None:
    """Pool the image tokens of a loaded model. InputError for a model that is not LLaVA's type, and a size that does not fit."""
    before: Any = model.layout
    pool_images(model.backbone.base, size)
    model.layout = replace(layout_of(model.backbone.base), mean=before.mean, std=before.std)  # type: ignore[type-var]
