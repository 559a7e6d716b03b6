"""Direct scores of opened items: batches of similar length, halved when memory runs out, in the caller's order again.

Shapes: N items, D dimensions, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.common.errors import counted
from zreward.distribution import ScoreDistribution
from zreward.models.batch_size import default_batch
from zreward.models.batches import pack

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel
    from zreward.prompting import Texts


def score_opened(
    model: RewardModel,
    shown: Sequence[tuple[Tensor, ...]],
    prompts: Sequence[str | Texts],
    names: tuple[str, ...],
    batch_size: int | None,
    token_budget: int | None,
) -> ScoreDistribution:
    """`RewardModel.score_opened`: probs (N, D, S), on the CPU."""

    def run(chosen: list[int]) -> ScoreDistribution:
        with counted(chosen):
            texts = [prompts[i] for i in chosen]
            return model.distribution_of([shown[i] for i in chosen], texts, names).detach().to("cpu")

    lengths = [model.length(images, prompt, names[0]) for images, prompt in zip(shown, prompts, strict=True)]
    if batch_size is None:
        batch_size, default_budget = default_batch(model.backbone, max(lengths))
        token_budget = token_budget or default_budget
    batches = pack(lengths, batch_size, token_budget)
    parts = [part for batch in batches for part in model.oom_retry.run(run, batch, [lengths[i] for i in batch])]
    return ScoreDistribution.cat(parts)[torch.tensor([i for batch in batches for i in batch]).argsort()]
