"""The check of a model's kernels, and what training does about it: the reference in the place of what is not right."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zreward.models.kernels.compare import Verdict, verdict_of
from zreward.models.kernels.discovery import Kernel, find_kernels
from zreward.models.kernels.environment import environment
from zreward.models.kernels.verdict_cache import VerdictCache
from zreward.models.precision import tf32_allowed

_OF_TORCH = ("torch", "sdpa", "eager")  # no kernels of their own on a CPU


@dataclass(frozen=True)
class Finding:
    kernel: Kernel
    number_format: torch.dtype
    verdict: Verdict


def check_kernels(
    kernels: Iterable[Kernel], formats: Sequence[torch.dtype], device: torch.device, again: bool = False
) -> list[Finding]:
    """Every kernel in every number format. Verdicts of this environment are taken from the cache, unless `again`."""
    cache = VerdictCache(environment(device) | {"tf32": str(tf32_allowed())})
    findings, new = [], {}
    for kernel in kernels:
        for number_format in formats:
            key = f"{kernel.implementation} {kernel.name} {kernel.sizes} {number_format}"
            verdict = None if again else cache.get(key)
            if verdict is None:
                verdict = new[key] = verdict_of(kernel.cases(), number_format, device)
            findings.append(Finding(kernel, number_format, verdict))
    # A card that was full is no fault of the kernel.
    cache.put({key: verdict for key, verdict in new.items() if "OutOfMemoryError" not in verdict.reason})
    return findings


def use_right_kernels(model: nn.Module, formats: Sequence[torch.dtype], device: torch.device) -> list[Finding]:
    """Replace each kernel of the model that is not right in one of these formats by its reference, with one warning for each.

    What a layer's file calls is replaced for every model of the process. Nothing is checked on a CPU where PyTorch alone
    computes.
    """
    kernels = [one for one in find_kernels(model) if device.type != "cpu" or one.implementation not in _OF_TORCH]
    findings = check_kernels(kernels, formats, device) if kernels else []
    for kernel in kernels:
        bad = [one for one in findings if one.kernel is kernel and not one.verdict.is_right]
        kernel.replace(frozenset(one.number_format for one in bad))
        if bad:
            warnings.warn(_warning(kernel, bad), stacklevel=2)
    return findings


def _warning(kernel: Kernel, bad: Sequence[Finding]) -> str:
    found = "; ".join(f"{format_name(one.number_format)}: {one.verdict}" for one in bad)
    which = f"kernel {kernel.name} of {kernel.layer} ({kernel.implementation})"
    if kernel.is_reference:
        return f"{which} is itself the reference, and fails its check: {found}; install another version of torch"
    return f"{which} fails its check: {found}. Its slower reference is used instead; install {kernel.remedy}"


def format_name(number_format: torch.dtype) -> str:
    return str(number_format).removeprefix("torch.")
