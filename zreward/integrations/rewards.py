"""Reward functions as trainers call them. flow_grpo's in-process scorer is `zreward.generation.reward_function`.

All of them return the mean expected score over `dimensions` (default: all), on the rubric's scale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel


def trl_reward(
    model: RewardModel, dimensions: Sequence[str] | None = None, image_column: str = "image"
) -> Callable[..., list[float | None]]:
    """A reward function of TRL's trainers: how well each completion, as an image's prompt, describes the row's image.

    A completion without text, and a row without an image, gets None: TRL leaves it out. Mean and standard deviation per
    dimension go to TRL's log. The function raises InputError for a row with several images.

    Args:
        model: the reward model.
        dimensions: names whose mean is the reward; default all.
        image_column: column of the images, one in every row or, as in TRL's own data sets, a list of one.

    Returns:
        `reward(prompts, completions, **columns)` -> rewards on the rubric's scale.
    """
    names = model.check_dimensions(dimensions)

    def zreward_score(
        prompts: Sequence[Any], completions: Sequence[Any], log_metric: Any = None, **columns: Any
    ) -> list[float | None]:
        if image_column not in columns:
            raise InputError(f"the data set has no column {image_column!r}; it has {sorted(columns)}")
        texts = [_text(completion).strip() for completion in completions]
        images = [_one_image(row, number) for number, row in enumerate(columns[image_column])]
        known = [n for n, text in enumerate(texts) if text and images[n] is not None]
        rewards: list[float | None] = [None] * len(texts)
        if known:
            scores = model.score([images[n] for n in known], [texts[n] for n in known], names)
            for n, reward in zip(known, scores.mean.mean(-1).tolist(), strict=True):
                rewards[n] = reward
            if log_metric:
                for d, name in enumerate(names):
                    log_metric(f"zreward/{name}", scores.mean[:, d].mean().item())
                    log_metric(f"zreward/{name}_std", scores.std[:, d].mean().item())
        return rewards

    return zreward_score


def verl_compute_score(model: RewardModel, dimensions: Sequence[str] | None = None) -> Callable[..., Any]:
    """verl-omni's `async compute_score(data_source, solution_image, ground_truth, extra_info)` -> {"score", dimensions}.

    `solution_image` is uint8 (3, H, W), `ground_truth` the prompt.
    """
    names = model.check_dimensions(dimensions)

    async def compute_score(
        data_source: Any, solution_image: Any, ground_truth: str, extra_info: Any = None, **_: Any
    ) -> dict[str, float]:
        pixels = np.asarray(solution_image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
            raise InputError(f"solution_image is {pixels.dtype} {pixels.shape}; expected uint8 (3, height, width)")
        picture = Image.fromarray(pixels.transpose(1, 2, 0))
        scores = await asyncio.to_thread(model.score, [picture], [ground_truth], names)
        by_name = dict(zip(names, scores.mean[0].tolist(), strict=True))
        return {"score": sum(by_name.values()) / len(by_name), **by_name}

    return compute_score


def _one_image(row: Any, number: int) -> Any:
    """The image of a row that holds one, alone or in a list; None where there is none."""
    if not isinstance(row, list | tuple):
        return row
    if len(row) > 1:
        raise InputError(f"row {number} has {len(row)} images; a reward is that of one")
    return row[0] if row else None


def _text(completion: Any) -> str:
    """A text, or that of a conversation's last message; "" where it has none (a call of tools)."""
    if isinstance(completion, list | tuple):
        completion = completion[-1] if completion else None
    if isinstance(completion, Mapping):
        completion = completion.get("content")
    if isinstance(completion, list | tuple):
        completion = "".join(
            (part.get("text") or "") if isinstance(part, Mapping) else str(part) for part in completion
        )
    return completion if isinstance(completion, str) else ""
