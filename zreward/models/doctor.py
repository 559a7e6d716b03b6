"""What a machine is made of, and whether the kernels of a model compute what they should on it: `zreward doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from zreward.models.kernels.check import Finding, check_kernels, format_name
from zreward.models.kernels.compare import NAN, WRONG
from zreward.models.kernels.discovery import Kernel, find_kernels
from zreward.models.kernels.environment import environment
from zreward.models.kernels.meta_models import configured, families
from zreward.models.kernels.peak import matrix_peak
from zreward.models.precision import set_tf32, tf32_allowed

FORMATS = (torch.float32, torch.bfloat16)
_TRITON = (3, 7, 1)  # the first whose gated-delta gradients are right on Hopper cards


@dataclass(frozen=True)
class Examination:
    device: torch.device
    environment: dict[str, str | None]
    missing: list[str]  # what fast training on a GPU needs and is not here, with what to do
    tf32: dict[str, bool]
    free_bytes: int | None  # of the card; None on a CPU
    total_bytes: int | None
    peak: dict[str, float]  # number format -> TFLOP/s of matrix products
    findings: list[Finding]

    @property
    def is_wrong(self) -> bool:
        """Whether a kernel gives numbers that are not right. One that refuses gives none."""
        return any(one.verdict.kind in (WRONG, NAN) for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        kernels = [
            {
                "layer": one.kernel.layer,
                "kernel": one.kernel.name,
                "implementation": one.kernel.implementation,
                "sizes": one.kernel.sizes,
                "format": format_name(one.number_format),
                "verdict": one.verdict.kind,
                "difference": one.verdict.difference,
                "reason": one.verdict.reason,
            }
            for one in self.findings
        ]
        return vars(self) | {"device": str(self.device), "findings": kernels, "wrong": self.is_wrong}


def examine(model: str | None, device: torch.device) -> Examination:
    """Examine a device, and check the kernels of a model's layers (by its configuration; None: of the supported families).

    Every kernel is checked anew, at small sizes, and the verdicts are kept for training. InputError for an unknown model.
    """
    kernels = _kernels(model)
    if device.type == "cuda":
        set_tf32(False)  # as where a model is loaded
    facts = environment(device)
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (None, None)
    return Examination(
        device,
        facts,
        _missing(facts, device),
        tf32_allowed(),
        free,
        total,
        {format_name(one): matrix_peak(one, device) for one in FORMATS},
        check_kernels(kernels, FORMATS, device, again=True),
    )


def _kernels(model: str | None) -> list[Kernel]:
    """Each kernel once: families share theirs."""
    models = families() if model is None else [configured(model)]
    found = {(one.name, one.layer, one.sizes): one for layers in models for one in find_kernels(layers)}
    return list(found.values())


def _missing(facts: dict[str, str | None], device: torch.device) -> list[str]:
    missing = []
    if device.type != "cuda":
        missing.append("a CUDA device: this is a CPU, where models of a few million weights train")
    if facts["cuda"] is None:
        missing.append(
            f"torch for CUDA: {facts['torch']} computes on the CPU alone; install torch 2.13 or newer for CUDA"
        )
    if facts["flash-linear-attention"] is None:
        missing.append("flash-linear-attention, for Qwen3.5's linear attention: pip install 'zreward[gpu]'")
    if facts["triton"] is None or _numbers(facts["triton"]) < _TRITON:
        found = f"this is {facts['triton']}" if facts["triton"] else "there is none"
        missing.append(f"Triton 3.7.1 or newer ({found}): torch 2.13 brings it; pip install 'zreward[gpu]'")
    return missing


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdecimal())
