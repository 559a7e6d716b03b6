"""Weights of which each process may hold a part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def put_weights(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Write values into the tensors of those names, of which each process may hold a shard."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    with torch.no_grad():
        for name, target in into.items():
            value = values[name].to(target.device, target.dtype)
            if isinstance(target, DTensor):
                value = distribute_tensor(value, target.device_mesh, target.placements)
            target.copy_(value)
