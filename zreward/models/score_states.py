"""What a reward model's label head reads: the last hidden state at the score position, of a picture with its prompt and question.

Shapes: N pictures, D dimensions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.models.modes import evaluation_mode
from zreward.models.rows import rows_of

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel


@torch.no_grad()
def score_states(
    model: RewardModel, images: Sequence[Tensor], prompts: Sequence[str], names: Sequence[str], batch_size: int
) -> Tensor:
    """States (N, D, H), float32, on the CPU; without reasoning.

    Args:
        model: one that scores single pictures.
        images: what `open` or `decode` returned.
        prompts: one text per image.
        names: dimensions of the rubric.
        batch_size: pictures in a batch.
    """
    parts = []
    with evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            chunk = list(images[start : start + batch_size])
            texts = prompts[start : start + batch_size]
            rows = rows_of([(image,) for image in chunk], texts, names)
            inputs = replace(model.collate(chunk, rows), share=True).to(model.device)
            parts.append(model.backbone(inputs).score_states.float().unflatten(0, (-1, len(names))).cpu())
    return torch.cat(parts)
