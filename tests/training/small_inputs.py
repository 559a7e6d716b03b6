"""Input of a model by its shapes alone: nothing reads what is in it."""

from __future__ import annotations

import torch

from zreward.models.inputs import ModelInput


def inputs(rows: int, mask: list[list[int]] | None = None) -> ModelInput:
    ids = torch.zeros(rows, 2, dtype=torch.long)
    trace_mask = None if mask is None else torch.tensor(mask)
    return ModelInput(ids, torch.ones_like(ids), torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(rows, 1), trace_mask)
