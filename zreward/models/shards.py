"""Weights of which each process may hold a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

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


@torch.no_grad()
def whole(values: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Tensors with all their parts; what had to be gathered is on the CPU.

    All processes have to call, with the same names: they gather one tensor after the other. Those that do not `keep` get none.
    """
    parts: dict[int, Tensor] = {}
    for number, value in {id(value): value for value in values.values()}.items():  # tied weights stay tied
        with gathered([value]):
            part = _without_shards(value)
        if keep:
            parts[number] = part
    return {name: parts[id(value)] for name, value in values.items()} if keep else {}


@contextmanager
def gathered(values: Sequence[Tensor]) -> Iterator[None]:
    """In here DeepSpeed's ZeRO-3 has the weights among these in one piece. All processes have to enter."""
    split = [value for value in values if hasattr(value, "ds_id")]
    if not split:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(split):
        yield


def _without_shards(value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    return value.detach().cpu().clone() if hasattr(value, "ds_id") else value.detach()
