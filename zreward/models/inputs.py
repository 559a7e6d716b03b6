"""Rows as tensors: what a model is asked, ready for it.

Shapes: N rows (one row = one item and dimension), T tokens, P distinct images, K the most images of a row.
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
    row_images: Tensor  # (N, K): in the order of the row's placeholders, then -1
    trace_mask: Tensor | None = None  # (N, T), ones on the tokens of a trace or explanation
    # (N,): where the label is predicted, when an explanation follows; default the last token
    score_at: Tensor | None = None
    # (N,): equal for rows of one item, where some show no images; default: told by their images
    items: Tensor | None = None
    share: bool = False  # encode once what rows have in common: the same result for less (see `zreward.models.sharing`)

    def to(self, device: torch.device) -> ModelInput:
        moved: dict[str, Any] = {k: to_device(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def rows(self, chosen: slice) -> ModelInput:
        """A slice of rows, with the images that they show."""
        places = self.row_images[chosen]
        shown = shown_images(places).unique()
        row_images = torch.searchsorted(shown, places.contiguous()).masked_fill(places < 0, -1)
        part = replace(
            self,
            input_ids=self.input_ids[chosen],
            attention_mask=self.attention_mask[chosen],
            row_images=row_images,
            trace_mask=None if self.trace_mask is None else self.trace_mask[chosen],
            score_at=None if self.score_at is None else self.score_at[chosen],
            items=None if self.items is None else self.items[chosen],
        )
        if len(shown) == len(self.grid):
            return part
        patches = self.patches.split(self.grid.prod(1).tolist())
        kept = torch.cat([patches[i] for i in shown]) if len(shown) else self.patches[:0]
        return replace(part, patches=kept, grid=self.grid[shown])


def shown_images(row_images_NK: Tensor) -> Tensor:
    """(M,): the images of all rows, row by row, in the order of their placeholders."""
    return row_images_NK[row_images_NK >= 0]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU from pinned memory, so that the copy runs beside what was queued before it."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.requires_grad:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")  # a copy to the host must have arrived
