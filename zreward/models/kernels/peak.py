"""What a device's matrix products reach, measured: the yardstick for everything that a model does on it."""

from __future__ import annotations

from time import perf_counter

import torch

_SIZES = {"cuda": 8192, "cpu": 768}
_SECONDS = 0.4  # for each number format


def matrix_peak(number_format: torch.dtype, device: torch.device) -> float:
    """TFLOP/s of square matrix products, the best of those that fit into the time."""
    size = _SIZES.get(device.type, 2048)
    one = torch.randn(size, size, device=device).to(number_format)
    other, out = one.clone(), torch.empty_like(one)
    best, end = float("inf"), perf_counter() + _SECONDS
    while best == float("inf") or perf_counter() < end:
        started = _now(device)
        torch.mm(one, other, out=out)
        best = min(best, _now(device) - started)
    return 2 * size**3 / best / 1e12


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()
