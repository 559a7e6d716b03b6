"""The panel of simulated raters: each sees the truth through an own bias, an own stretch of the scale and own noise."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Rater:
    """score = centre + stretch * (truth - centre) + bias + noise, rounded to half points within [1, 5].

    `careless` is the share of items answered without looking: a uniform draw from the nine half points.
    """

    id: str
    bias: float
    stretch: float
    noise: float
    careless: float = 0.0

    def rate(self, truth: float, rng: random.Random) -> float:
        if rng.random() < self.careless:
            return 1 + 0.5 * rng.randrange(9)
        seen = 3 + self.stretch * (truth - 3) + self.bias + rng.gauss(0, self.noise)
        return min(5.0, max(1.0, round(seen * 2) / 2))


def make_panel(rng: random.Random, reliable: int = 8) -> list[Rater]:
    """`reliable` raters (bias of std 0.25, stretch 0.8 to 1.1, noise 0.3 to 0.6 points) and a careless one, the last."""
    raters = [
        Rater(f"r{index + 1}", rng.gauss(0, 0.25), rng.uniform(0.8, 1.1), rng.uniform(0.3, 0.6))
        for index in range(reliable)
    ]
    return [*raters, Rater(f"r{reliable + 1}", rng.gauss(0, 0.25), 0.9, 0.5, careless=0.6)]


def audit(raters: list[Rater], truths: list[float], rng: random.Random, tolerance: float = 0.5) -> dict[str, float]:
    """Each rater's share of gold items rated within `tolerance` of the truth (method, section 7: audited accuracy)."""
    return {
        rater.id: sum(abs(rater.rate(truth, rng) - truth) <= tolerance for truth in truths) / len(truths)
        for rater in raters
    }
