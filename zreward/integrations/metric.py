"""A torchmetrics Metric that keeps distributions: `update` with pictures and prompts, `compute` for a whole evaluation.

State is added over processes as torchmetrics does it. Shapes: N pictures, D dimensions, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from zreward.distribution import ScoreDistribution
from zreward.models.reward_model import RewardModel


class RewardScore(Metric):
    """The mean score distribution of a generator's pictures, per dimension.

    `compute` gives {dimension: expected score, dimension_spread: mean standard deviation that the model expects among raters,
    dimension_low: share of probability in the lowest quarter of the scale, overall}. NaN before the first update.
    """

    full_state_update = False
    higher_is_better = True
    probs: Tensor
    spread: Tensor
    count: Tensor
    model: RewardModel

    def __init__(self, model: RewardModel, dimensions: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        object.__setattr__(self, "model", model)  # not a part of the metric: its state_dict stays small
        self.names = model.check_dimensions(dimensions)
        bins = len(model.rubric.scale)
        self.add_state("probs", torch.zeros(len(self.names), bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("spread", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Sequence[Any], prompts: Sequence[str] | str) -> None:
        """Anything that `RewardModel.score` takes."""
        scores = self.model.score(images, prompts, self.names)
        self.probs += scores.probs.double().sum(0).to(self.probs)
        self.spread += scores.std.double().sum(0).to(self.spread)
        self.count += len(scores)

    def distribution(self) -> ScoreDistribution:
        """(1, D, S): the mean distribution of all pictures so far."""
        return ScoreDistribution((self.probs / self.count)[None], self.model.rubric.scale.bins, self.names)

    def compute(self) -> dict[str, Tensor]:
        if not self.count:
            return {"overall": torch.tensor(torch.nan)}
        mean = self.distribution()
        scale = self.model.rubric.scale
        low = mean.probs[0][:, mean.bins <= scale.min + scale.range / 4].sum(-1)
        found = dict(zip(self.names, mean.mean[0], strict=True))
        found |= {f"{name}_spread": self.spread[d] / self.count[0] for d, name in enumerate(self.names)}
        found |= {f"{name}_low": low[d] for d, name in enumerate(self.names)}
        return found | {"overall": mean.mean[0].mean()}
