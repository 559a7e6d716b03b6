"""Best of N for a diffusers pipeline: draw N candidates of a prompt, keep the most likely best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from zreward.common.errors import check_counts
from zreward.inference.ranking import Candidate, rank
from zreward.models.reward_model import RewardModel


def best_of_n(
    pipeline: Any,
    model: RewardModel,
    prompt: str,
    count: int = 8,
    seed: int = 0,
    dimensions: Sequence[str] | None = None,
    batch_size: int = 4,
    **options: Any,
) -> list[tuple[Image.Image, Candidate]]:
    """Draw pictures of one prompt and rank them.

    Args:
        pipeline: a diffusers text-to-image pipeline.
        model: the reward model.
        prompt: the text.
        count: pictures, with the seeds `seed`, `seed` + 1, ...
        seed: the first seed.
        dimensions: names to rank by; default all.
        batch_size: pictures that the pipeline draws at a time.
        **options: for the pipeline: num_inference_steps, guidance_scale, ...

    Returns:
        Pictures with their candidates, best first; a candidate's `image` is its seed.
    """
    check_counts(count=count, batch_size=batch_size)
    seeds = list(range(seed, seed + count))
    pictures: list[Image.Image] = []
    for start in range(0, count, batch_size):
        chunk = seeds[start : start + batch_size]
        generators = [torch.Generator().manual_seed(one) for one in chunk]
        pictures += pipeline(prompt=[prompt] * len(chunk), generator=generators, **options).images
    scores = model.score(pictures, prompt, dimensions)
    ranked = rank([str(one) for one in seeds], [prompt] * count, scores)
    return [(pictures[int(one.image) - seed], one) for one in ranked]
