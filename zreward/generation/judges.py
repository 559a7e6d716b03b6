"""Who says how good a picture is: a reward model, directly or after reasoning, or a judge that a package offers.

Shapes: N pictures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zreward.common import registry
from zreward.common.errors import InputError
from zreward.generation.drawn import to_image
from zreward.generation.recipe import OptimizeRecipe
from zreward.models.fingerprint import model_fingerprint
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel

TEMPERATURE = 0.5  # of a reasoning judge's traces


@dataclass(frozen=True)
class Judge:
    """Expected scores (N, D) of pictures and their prompts."""

    name: str
    dimensions: tuple[str, ...]
    score: Callable[[Sequence[Image.Image], Sequence[str]], np.ndarray]
    fingerprint: Mapping[str, Any] = field(default_factory=dict)  # of a reward model

    def __call__(self, pictures: Sequence[Image.Image] | Tensor, prompts: Sequence[str]) -> np.ndarray:
        """PIL pictures, or pixels (N, 3, H, W) in [0, 1], which are rounded as a PNG file rounds them."""
        images = [to_image(pixels) if isinstance(pixels, Tensor) else pixels for pixels in pictures]
        if len(images) != len(prompts) or not images:
            raise InputError(
                f"judge: {len(images)} pictures and {len(prompts)} prompts; expected one prompt per picture, at least one"
            )
        return self.score(images, prompts)


def load_judge(name: str, device: Any = None, reasoning: bool = False, batch_size: int = 32) -> Judge:
    """A judge by name.

    Args:
        name: a registered judge, or a reward model: folder, hub name or a package's name.
        device: of a reward model; default CUDA if available, else the CPU.
        reasoning: a reward model reasons before it scores.
        batch_size: pictures in a batch.

    Raises:
        InputError: it cannot be loaded.
    """
    registered = registry.find(registry.JUDGES, name)
    if registered is not None:
        return registered()
    model = load_frozen(name, device)

    def score(images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        if not reasoning:
            return model.score(images, prompts, batch_size=batch_size).mean.double().numpy()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            judged = model.judge(images, prompts, temperature=TEMPERATURE, batch_size=batch_size)
        return torch.cat([judgement.distribution.mean for judgement in judged]).double().numpy()

    return Judge(name, model.rubric.dimension_names, score, model_fingerprint(model))


def load_frozen(
    name: str, device: Any = None, dtype: str | None = None, resolution: ResolutionPolicy | None = None
) -> RewardModel:
    """A reward model that only judges: no gradient to its weights. Format and resolution are its own by default."""
    model = RewardModel.from_pretrained(name, device=device, dtype=dtype, resolution=resolution)
    return model.requires_grad_(False)


def load_student(recipe: OptimizeRecipe, device: Any) -> RewardModel:
    """The reward model that the generator learns from, as the recipe wants it."""
    wanted = recipe.reward
    resolution = None
    if wanted.longest_side or wanted.pixel_budget:
        resolution = ResolutionPolicy(wanted.longest_side, wanted.pixel_budget)
    return load_frozen(recipe.student, device, wanted.dtype, resolution)
