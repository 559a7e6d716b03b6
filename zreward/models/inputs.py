"""Rows as tensors: what a model is asked, ready for it.

Shapes: N rows (one row = one image, prompt and dimension), T tokens, P distinct images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelInput:
    """Rows ready for the model. Rows share images: `row_images[n]` are the indices of row n's image(s)."""

    input_ids: Tensor  # (N, T)
    attention_mask: Tensor  # (N, T), ones where real
    patches: Tensor  # the images' patches (sum of patches, C), squares (P, 3, side, side) or cached features (P, T, C)
    grid: Tensor  # (P, 3): frames, patch rows, patch columns
    row_images: Tensor  # (N, 1), or (N, 2) with a reference: in the order of the row's placeholders
    trace_mask: Tensor | None = None  # (N, T), ones on the tokens of a trace or explanation
    # (N,): where the label is predicted, when an explanation follows; default the last token
    score_at: Tensor | None = None
    share: bool = False  # encode once what rows have in common: the same result for less (see `zreward.models.sharing`)

    def to(self, device: torch.device) -> ModelInput:
        moved: dict[str, Any] = {k: to_device(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def rows(self, chosen: slice) -> ModelInput:
        """A slice of rows, with the images that they show."""
        shown, row_images = self.row_images[chosen].unique(return_inverse=True)
        part = replace(
            self,
            input_ids=self.input_ids[chosen],
            attention_mask=self.attention_mask[chosen],
            row_images=row_images,
            trace_mask=None if self.trace_mask is None else self.trace_mask[chosen],
            score_at=None if self.score_at is None else self.score_at[chosen],
        )
        if len(shown) == len(self.grid):
            return part
        patches = self.patches.split(self.grid.prod(1).tolist())
        return replace(part, patches=torch.cat([patches[i] for i in shown]), grid=self.grid[shown])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU from pinned memory, so that the copy runs beside what was queued before it."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.requires_grad:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")  # a copy to the host must have arrived
