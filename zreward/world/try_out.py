"""Pictures for a first look at the studio: scenes of the built-in world, whose true scores are known."""

from __future__ import annotations

import random
from collections.abc import Iterator

from zreward.common.errors import check_counts
from zreward.studio.domain.adding import NewPicture
from zreward.world.dataset import png
from zreward.world.grammar import sample_prompts
from zreward.world.scenes import DIMENSIONS, sample_scene


def pictures(prompts: int, candidates: int = 4, seed: int = 0) -> Iterator[NewPicture]:
    """Scenes of the built-in world, with their truth on every dimension. InputError for counts below 1."""
    check_counts(prompts=prompts, candidates=candidates)
    rng = random.Random(f"studio world {seed}")
    for number, prompt in enumerate(sample_prompts(prompts, rng)):
        for candidate in range(candidates):
            scene = sample_scene(prompt, rng)
            truth = {name: round(scene.truth(name) * 2) / 2 for name in DIMENSIONS}
            yield NewPicture(prompt.text, png(scene), f"world-{number:04d}-{candidate}", truth=truth)
