"""Kernels of a package that is not right, in the place where transformers puts flash-linear-attention's."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import torch
from transformers.integrations.hub_kernels import use_kernel_func_from_hub_with_fallback
from transformers.models.qwen3_5 import modeling_qwen3_5

RULE = "torch_chunk_gated_delta_rule"
REFERENCE = inspect.unwrap(getattr(modeling_qwen3_5, RULE))


class _Gradient(torch.autograd.Function):
    """The value as it is; the gradient that `wrong` makes of it."""

    @staticmethod
    def forward(ctx, value, wrong):
        ctx.wrong = wrong
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.wrong(gradient), None


def _raise(gradient):
    raise RuntimeError("this card produces incorrect results\nand more lines")


def _kernel(compute):
    """With the parameters that transformers passes on: it leaves out those that a kernel does not name."""

    def kernel(q, k, v, g, beta, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False):
        options = {"output_final_state": output_final_state, "use_qk_l2norm_in_kernel": use_qk_l2norm_in_kernel}
        return compute(q, k, v, initial_state, {"g": g, "beta": beta} | options)

    return kernel


def _with(wrong):
    return _kernel(lambda q, k, v, state, x: REFERENCE(_Gradient.apply(q, wrong), k, v, initial_state=state, **x))


def _not_a_number(q, k, v, state, options):
    output, after = REFERENCE(q, k, v, initial_state=state, **options)
    return output * float("nan"), after


def _state_dropped(q, k, v, state, options):
    """The gradient to the state before the text is lost: what a prefix learns from its questions."""
    return REFERENCE(q, k, v, initial_state=None if state is None else state.detach(), **options)


KERNELS = {
    "gradient": _with(lambda gradient: gradient * 0.8),
    "raises": _with(_raise),
    "nan": _kernel(_not_a_number),
    "state": _kernel(_state_dropped),
    "right": _with(lambda gradient: gradient),
}


def plant(monkeypatch, name: str) -> None:
    """As if a package `fla` with this kernel had been installed when transformers was imported."""
    kernel = KERNELS[name]
    package, home = ModuleType("fla"), "fla.ops.gated_delta_rule"
    package.chunk_gated_delta_rule = kernel
    monkeypatch.setattr(kernel, "__module__", home)
    monkeypatch.setitem(sys.modules, "fla", package)
    wrapped = use_kernel_func_from_hub_with_fallback("chunk_gated_delta_rule", "fla")(REFERENCE)
    monkeypatch.setattr(modeling_qwen3_5, RULE, wrapped)
