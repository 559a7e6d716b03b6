"""The prompt source `world:COUNT`: that many new prompts of the world's grammar."""

from __future__ import annotations

import random

from zreward.common.errors import InputError
from zreward.world.grammar import sample_prompts


def sample(count: str, seed: int, exclude: set[str]) -> list[str]:
    """Different prompts, none of them in `exclude`; the same for the same seed. InputError for a count that is none."""
    if not count.isdecimal() or int(count) < 1:
        raise InputError(f"prompts 'world:{count}': expected world:COUNT, for example world:400")
    return [prompt.text for prompt in sample_prompts(int(count), random.Random(seed), exclude)]
