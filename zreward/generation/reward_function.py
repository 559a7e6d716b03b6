"""The same reward for pipelines that cannot be differentiated: a function as flow_grpo-style policy-gradient trainers call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.generation.aggregate import Aggregate
from zreward.generation.confidence import confidence_of, drawn_to_mean
from zreward.generation.evaluator import score_pixels
from zreward.models.reward_model import RewardModel

RewardFunction = Callable[[Any, Sequence[str], Any], tuple[list[float], dict[str, Any]]]


def reward_function(
    model: RewardModel,
    aggregate: Aggregate | None = None,
    dimensions: Sequence[str] | None = None,
    batch_size: int = 32,
    confidence: float | None = None,
) -> RewardFunction:
    """A reward function as flow_grpo calls it.

    Args:
        model: the reward model.
        aggregate: how scores per dimension become one reward; default their mean.
        dimensions: names; default all.
        batch_size: pictures in a batch.
        confidence: score points: each reward is drawn to the mean of its prompt's pictures in the call by how unsure the model
            is that the score lies this near to mu (`zreward/generation/confidence.py`); default: rewards as they are. Give one
            call all pictures of a prompt.

    Returns:
        `fn(images, prompts, metadata) -> (rewards, {})`: images are floats (N, 3, H, W) in [0, 1], a tensor or an array;
        `metadata` is not read. It raises InputError for pictures of another form, ValueError if the model returns NaN.

    Raises:
        InputError: an aggregate that does not fit the model, or that needs a reference picture; a confidence that is not above 0.
    """
    chosen, names = aggregate or Aggregate(), model.check_dimensions(dimensions)
    chosen.check(names, len(model.rubric.scale))
    if chosen.kind == "beats":
        raise InputError("reward_function: kind beats needs a reference picture; choose another aggregate")
    if confidence is not None and not 0 < confidence < inf:
        raise InputError(f"reward_function: confidence is {confidence}, expected score points above 0, such as 1.0")

    def reward(images: Any, prompts: Sequence[str], metadata: Any = None) -> tuple[list[float], dict[str, Any]]:
        pixels = images if isinstance(images, Tensor) else torch.as_tensor(images)
        if pixels.ndim != 4 or len(pixels) != len(prompts) or not len(pixels):
            raise InputError(
                f"reward: images {tuple(pixels.shape)} for {len(prompts)} prompts; expected (N, 3, H, W), one prompt for each"
            )
        scores = score_pixels(model, pixels.detach(), list(prompts), names, batch_size)
        rewards = chosen(scores)
        if confidence is not None:
            rewards = drawn_to_mean(rewards, confidence_of(scores, confidence, chosen.weights), prompts)
        return rewards.tolist(), {}

    return reward
