"""What decides whether a kernel is right: the versions of what compiles and runs it, and the card."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    *("torch", "triton", "transformers", "flash-linear-attention", "fla-core", "tilelang", "causal-conv1d"),
    *("flash-attn", "liger-kernel", "kernels"),
)
_DRIVER = Path("/proc/driver/nvidia/version")


def environment(device: torch.device) -> dict[str, str | None]:
    """Card, driver, CUDA and packages of a device; None for what is not there."""
    on_card = device.type == "cuda"
    facts: dict[str, str | None] = {
        "card": torch.cuda.get_device_name(device) if on_card else None,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))) if on_card else None,
        "driver": _driver(),
        "cuda": torch.version.cuda,
    }
    return facts | {name: installed(name) for name in PACKAGES}


def installed(package: str) -> str | None:
    """Its version; torch's with its build (2.13.0+cpu)."""
    if package == "torch":
        return torch.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    """NVIDIA's, as its module for Linux says it."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _DRIVER.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found.group() if found else None
