"""Which kernels a model's layers use, by what their code calls. Works on models without weights (on the meta device) too.

transformers chooses when a layer's module is imported: a function such as `torch_chunk_gated_delta_rule` is a wrapper around the
installed package's kernel, or around the reference that stands in the same file. Attention goes by the configuration's name.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

import torch
from torch import nn

from zreward.models.attention import NAME as SHARING
from zreward.models.kernels.attention import attention_cases, head_size
from zreward.models.kernels.compare import Case
from zreward.models.kernels.gated_delta import (
    chunk_cases,
    convolution_cases,
    convolution_step_cases,
    delta_sizes,
    recurrent_cases,
)
from zreward.models.kernels.norms import is_replaced_norm, norm_cases, restore

Formats = frozenset[torch.dtype]
_FUNCTIONS: dict[str, tuple[str, str, Callable[..., Iterator[Case]]]] = {
    "torch_chunk_gated_delta_rule": ("chunk_gated_delta_rule", "heads", chunk_cases),
    "torch_recurrent_gated_delta_rule": ("fused_recurrent_gated_delta_rule", "heads", recurrent_cases),
    "causal_conv1d_fn": ("causal_conv1d_fn", "convolution", convolution_cases),
    "causal_conv1d_update": ("causal_conv1d_update", "convolution", convolution_step_cases),
}
"""Name in a layer's file -> the kernel's own name, the sizes (of DeltaSizes) that matter to it, and the cases that try it."""
_INSTALL = {
    "fla": "Triton 3.7.1 or newer and flash-linear-attention 0.6 (pip install 'zreward[gpu]')",
    "causal_conv1d": "causal-conv1d 1.7 or newer, built for this torch",
    "flash_attention": "a newer flash-attn, built for this torch",
    "sdpa": "torch 2.13 or newer",
    "flex_attention": "torch 2.13 or newer",
}
"""Start of an implementation's name -> the version to install."""


@dataclass
class Kernel:
    name: str  # chunk_gated_delta_rule
    layer: str  # Qwen3_5GatedDeltaNet
    implementation: str  # fla.ops.gated_delta_rule.chunk, sdpa, torch (the reference)
    sizes: str  # what its verdict depends on
    cases: Callable[[], Iterator[Case]]
    replacements: list[Callable[[Formats], None]]  # one for each layer that uses it
    is_reference: bool = False

    @property
    def remedy(self) -> str:
        """What to install."""
        known = (text for start, text in _INSTALL.items() if self.implementation.startswith(start))
        return next(known, f"another version of {self.implementation.split('.')[0]}")

    def replace(self, formats: Formats) -> None:
        """Put the reference in its place for these number formats; for none: let it be."""
        for replacement in self.replacements:
            replacement(formats)


def find_kernels(model: nn.Module) -> list[Kernel]:
    """Every kernel of the model's layers once, in the order of the layers."""
    found: dict[tuple[str, ...], Kernel] = {}
    for module in model.modules():
        for kernel in _kernels_of(module):
            known = found.setdefault((kernel.name, kernel.layer, kernel.implementation, kernel.sizes), kernel)
            if known is not kernel:
                known.replacements += kernel.replacements
    return list(found.values())


def _kernels_of(module: nn.Module) -> Iterator[Kernel]:
    kind = type(module)
    home = sys.modules.get(kind.__module__)
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    called = code.co_names if code is not None and home is not None else ()
    for name in called:
        if name in _FUNCTIONS and home is not None and hasattr(home, name):
            yield _function(module, home, name)
    if "ALL_ATTENTION_FUNCTIONS" in called and hasattr(module, "is_causal") and hasattr(module, "head_dim"):
        yield _attention(module, home)
    if is_replaced_norm(module):
        yield _norm(module)


def _function(layer: Any, home: ModuleType, name: str) -> Kernel:
    """A kernel that the layer's code calls by a name of its file."""
    function = getattr(home, name)
    function = getattr(function, "replaced", function)
    reference = inspect.unwrap(function)
    chosen = implementation_of(function)
    title, matters, cases = _FUNCTIONS[name]
    sizes = delta_sizes(layer)
    return Kernel(
        title,
        type(layer).__name__,
        "torch" if chosen is reference else chosen.__module__,
        getattr(sizes, matters),
        lambda: cases(function, sizes),
        [lambda formats: setattr(home, name, _chosen(function, reference, formats))],
        chosen is reference,
    )


def implementation_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a wrapper of transformers calls; any other function is its own implementation."""
    if not inspect.isfunction(function):
        return function
    return inspect.getclosurevars(function).nonlocals.get("implementation", function)


def _chosen(kernel: Callable[..., Any], reference: Callable[..., Any], formats: Formats) -> Any:
    """The reference for inputs in these formats, the kernel for any other."""
    if not formats:
        return kernel

    @wraps(reference)
    def chosen(hidden: torch.Tensor, *others: Any, **options: Any) -> Any:
        return (reference if hidden.dtype in formats else kernel)(hidden, *others, **options)

    chosen.replaced = kernel  # type: ignore[attr-defined]
    return chosen


def _attention(layer: Any, home: Any) -> Kernel:
    name = layer.config._attn_implementation or "eager"
    interface = home.ALL_ATTENTION_FUNCTIONS.get_interface(name, home.eager_attention_forward)

    def replace(formats: Formats) -> None:
        if formats:
            layer.config._attn_implementation = "eager"

    groups = getattr(layer, "num_key_value_groups", 1)
    return Kernel(
        "attention",
        type(layer).__name__,
        "sdpa" if name == SHARING else name,
        f"heads of {head_size(layer)}, {groups} to a key head",
        lambda: attention_cases(interface, layer),
        [replace],
        name == "eager",
    )


def _norm(module: Any) -> Kernel:
    code = vars(module)["forward"]
    return Kernel(
        "norm",
        type(module).__name__,
        getattr(code, "__module__", type(code).__name__),
        f"{len(module.weight)} wide",
        lambda: norm_cases(module),
        [lambda formats: restore(module) if formats else None],
    )
