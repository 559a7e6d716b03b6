"""The same reward for pipelines that cannot be differentiated: a function as flow_grpo-style policy-gradient trainers call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.generation.aggregate import Aggregate
from zreward.generation.evaluator import score_pixels
from zreward.models.reward_model import RewardModel

RewardFunction = Callable[[Any, Sequence[str], Any], tuple[list[float], dict[str, Any]]]


def reward_function(
    model: RewardModel,
    aggregate: Aggregate | None = None,
    dimensions: Sequence[str] | None = None,
    batch_size: int = 32,
) -> RewardFunction:
    """A reward function as flow_grpo calls it.

    Args:
        model: the reward model.
        aggregate: how scores per dimension become one reward; default their mean.
        dimensions: names; default all.
        batch_size: pictures in a batch.

    Returns:
        `fn(images, prompts, metadata) -> (rewards, {})`: images are floats (N, 3, H, W) in [0, 1], a tensor or an array;
        `metadata` is not read. It raises InputError for pictures of another form, ValueError if the model returns NaN.

    Raises:
        InputError: an aggregate that does not fit the model, or that needs a reference picture.
    """
    chosen, names = aggregate or Aggregate(), model.check_dimensions(dimensions)
    chosen.check(names, len(model.rubric.scale))
    if chosen.kind == "beats":
        raise InputError("reward_function: kind beats needs a reference picture; choose another aggregate")

    def reward(images: Any, prompts: Sequence[str], metadata: Any = None) -> tuple[list[float], dict[str, Any]]:
        pixels = images if isinstance(images, Tensor) else torch.as_tensor(images)
        if pixels.ndim != 4 or len(pixels) != len(prompts) or not len(pixels):
            raise InputError(
                f"reward: images {tuple(pixels.shape)} for {len(prompts)} prompts; expected (N, 3, H, W), one prompt for each"
            )
        scores = score_pixels(model, pixels.detach(), list(prompts), names, batch_size)
        return chosen(scores).tolist(), {}

    return reward
