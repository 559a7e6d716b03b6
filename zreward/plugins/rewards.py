"""Reward functions as trainers call them. flow_grpo's in-process scorer is `zreward.generation.reward_function`.

All of them answer the mean expected score over `dimensions` (default: all), on the rubric's scale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from zreward.errors import InputError
from zreward.models.reward_model import RewardModel


def trl_reward(
    model: RewardModel, dimensions: Sequence[str] | None = None, image_column: str = "image"
) -> Callable[..., list[float | None]]:
    """A reward function of TRL's trainers: how well each completion, as an image's prompt, describes the row's image.

    The data set has the images in `image_column`. A completion without text, and a row without an image, is answered with
    None: TRL leaves it out. Means and spreads per dimension go to TRL's log.
    """
    names = model.check_dimensions(dimensions)

    def zreward_score(
        prompts: Sequence[Any], completions: Sequence[Any], log_metric: Any = None, **columns: Any
    ) -> list[float | None]:
        if image_column not in columns:
            raise InputError(f"the data set has no column {image_column!r}; it has {sorted(columns)}")
        texts = [_text(completion).strip() for completion in completions]
        images = columns[image_column]
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


def _text(completion: Any) -> str:
    """A text, or the last message of a conversation."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
