"""What a reward model's vision tower makes of pictures, as one vector each: for telling pictures that are unlike its data.

Shapes: N pictures, T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zreward.models.modes import evaluation_mode
from zreward.models.rows import Row

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

_ANY = "any"  # prompt: the vision tower does not read it


@torch.no_grad()
def picture_features(model: RewardModel, images: Sequence[Tensor], batch_size: int) -> Tensor:
    """Mean and standard deviation over a picture's tokens, as the language model gets them: (N, 2 H), float32, on the CPU.

    Args:
        model: one that scores single pictures.
        images: what `open` or `decode` returned.
        batch_size: pictures in a batch.
    """
    name, parts = model.rubric.dimension_names[0], []
    with evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            chunk = list(images[start : start + batch_size])
            inputs = model.collate(chunk, [Row(n, _ANY, name) for n in range(len(chunk))]).to(model.device)
            tokens = model.backbone.within(lambda given=inputs: model.backbone.encode_images(given)).pooler_output
            parts += [torch.cat([each.mean(0), each.std(0, correction=0)]) for each in (one.float() for one in tokens)]
    return torch.stack(parts).cpu()
