"""One kernel against its reference in float64, forward and backward: right, wrong, NaN, or it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zreward.common.errors import shorten
from zreward.models.precision import tf32_allowed

RIGHT, WRONG, NAN, REFUSES = "right", "wrong", "NaN", "refuses"
VERDICTS = (RIGHT, WRONG, NAN, REFUSES)
Inputs = Mapping[str, Tensor]
Computation = Callable[[Inputs], Sequence[Tensor]]

_TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference in shares of the tensor's largest number. Layers compute in float32 at most."""
_TF32_TOLERANCE = 2e-2  # of float32 on a card that was asked to round it


@dataclass(frozen=True)
class Verdict:
    kind: str  # one of VERDICTS
    difference: float | None = None  # the largest one, in shares of the tensor's largest number
    reason: str = ""  # where it differs, or what the kernel raised

    @property
    def is_right(self) -> bool:
        return self.kind == RIGHT

    def __str__(self) -> str:
        if self.kind == RIGHT:
            return f"right ({self.difference:.1e})"
        if self.kind == WRONG:
            return f"wrong (differs by {self.difference:.1e}: {self.reason})"
        return f"{self.kind} ({self.reason})"


@dataclass(frozen=True)
class Case:
    """A computation at a small size. Outputs of kernel and reference have the same order and shapes."""

    name: str  # "70 tokens, heads of 128"
    inputs: dict[str, Tensor]  # float64, on the CPU
    kernel: Computation
    reference: Computation
    outputs: tuple[str, ...]  # their names
    differentiated: tuple[str, ...] = ()  # inputs whose gradients are compared; none for decoding
    float32: tuple[str, ...] = ()  # inputs that the layer never hands over in half precision


def verdict_of(cases: Iterable[Case], number_format: torch.dtype, device: torch.device) -> Verdict:
    """The first verdict that is not right, or else the right one with the largest difference."""
    largest = Verdict(RIGHT, 0.0)
    for case in cases:
        verdict = _judge(case, number_format, device)
        if not verdict.is_right:
            return Verdict(verdict.kind, verdict.difference, f"{verdict.reason}; {case.name}")
        largest = max(largest, verdict, key=lambda one: one.difference or 0.0)
    return largest


def _judge(case: Case, number_format: torch.dtype, device: torch.device) -> Verdict:
    rounded = {}
    for name, value in case.inputs.items():
        kept = name in case.float32 and number_format in (torch.bfloat16, torch.float16)
        rounded[name] = value.to(torch.float32 if kept else number_format) if value.is_floating_point() else value
    expected = _run(case, case.reference, {k: v.double() if v.is_floating_point() else v for k, v in rounded.items()})
    try:
        found = _run(case, case.kernel, {name: value.to(device) for name, value in rounded.items()})
        found = {name: value.double().cpu() for name, value in found.items()}  # a device's errors come up here at last
    except Exception as error:  # a kernel and its compiler may raise anything
        lines = str(error).strip().splitlines()
        return Verdict(REFUSES, None, shorten(f"{type(error).__name__}: {lines[0] if lines else ''}", 300))
    broken = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        return Verdict(NAN, None, ", ".join(broken))
    differences = {name: _difference(found[name], value) for name, value in expected.items()}
    worst = max(differences, key=differences.__getitem__)
    rounds = number_format == torch.float32 and device.type == "cuda" and any(tf32_allowed().values())
    kind = RIGHT if differences[worst] <= (_TF32_TOLERANCE if rounds else _TOLERANCES[number_format]) else WRONG
    return Verdict(kind, differences[worst], worst)


def _run(case: Case, compute: Computation, values: Inputs) -> dict[str, Tensor]:
    """Outputs by name, and the gradients of a random weighting of all of them."""
    inputs = {
        name: value.clone().requires_grad_(name in case.differentiated)  # kernels may write into what they are given
        for name, value in values.items()
    }
    with torch.set_grad_enabled(bool(case.differentiated)):
        outputs = list(compute(inputs))
    found = dict(zip(case.outputs, (value.detach() for value in outputs), strict=True))
    if not case.differentiated:
        return found
    generator = torch.Generator().manual_seed(1)
    # Rounded once, so that both sides are given the same ones.
    weights = [torch.randn(value.shape, generator=generator).bfloat16().to(value) for value in outputs]
    asked = [inputs[name] for name in case.differentiated]
    gradients = torch.autograd.grad(outputs, asked, weights, allow_unused=True)
    for name, value, gradient in zip(case.differentiated, asked, gradients, strict=True):
        found[f"gradient of {name}"] = torch.zeros_like(value) if gradient is None else gradient
    return found


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
