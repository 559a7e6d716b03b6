"""Norms whose code was replaced on the module itself (kernels of the hub, Liger): the class's own code is the reference."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zreward.models.kernels.compare import Case, Inputs


def is_replaced_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    one_vector = isinstance(weight, Tensor) and weight.ndim == 1 and not weight.is_meta
    # accelerate's hooks also stand on the module, around its own code.
    return (
        "forward" in vars(module) and "Norm" in type(module).__name__ and one_vector and not hasattr(module, "_hf_hook")
    )


def restore(module: nn.Module) -> None:
    """The class's own code again."""
    vars(module).pop("forward", None)


def norm_cases(module: Any) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(0)
    names = list(inspect.signature(type(module).forward).parameters)[
        1:
    ]  # the hidden states, and a gate where there is one
    size = len(module.weight)
    inputs = {name: torch.randn(2, 5, size, generator=generator, dtype=torch.float64) for name in names}
    inputs["weight"] = module.weight.detach().double().cpu() + 0.1 * torch.randn(size, generator=generator)
    own = copy.deepcopy(module).cpu().double()
    restore(own)

    def run(which: nn.Module, x: Inputs) -> list[Tensor]:
        return [functional_call(which, {"weight": x["weight"]}, tuple(x[name] for name in names))]

    differentiated = (*names, "weight")
    yield Case(
        f"5 tokens of {size}", inputs, lambda x: run(module, x), lambda x: run(own, x), ("output",), differentiated
    )
