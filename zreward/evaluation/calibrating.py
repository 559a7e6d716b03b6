"""Fit a calibration to raters' scores, and say what it changes on prompts that it was not fitted on.

Shapes: M rated items of a dimension, K traces (1 without reasoning), S bins.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from zreward.common.errors import InputError
from zreward.evaluation.calibration_table import CalibrationItems
from zreward.evaluation.metrics import group_codes
from zreward.models.calibration import KINDS, MOST_SHIFT, MOST_TEMPERATURE, Recalibration, recalibrate

FEWEST = 20
"""Rated items of a dimension: with fewer, two numbers fit chance."""
_SMALLEST = 1e-12
_FLAT = 0.99


def fit(items: Mapping[str, CalibrationItems], kind: str) -> dict[str, Recalibration]:
    """The map of every dimension that makes the raters' scores most likely; every item counts alike.

    Args:
        items: of `calibration_table.items_of`: dimension -> its rated items.
        kind: one of `zreward.models.calibration.KINDS`.

    Raises:
        InputError: an unknown kind, fewer than `FEWEST` rated items.
    """
    if kind not in KINDS:
        raise InputError(f"calibration kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
    for name, part in items.items():
        if len(part.counts) < FEWEST:
            raise InputError(
                f"{len(part.counts)} pictures are rated on {name!r}; a calibration needs at least {FEWEST}, and a few hundred to "
                "be worth its numbers"
            )
    found = {name: _fit(part.probs, part.counts, kind) for name, part in items.items()}
    for name, one in found.items():
        if one.temperature > _FLAT * MOST_TEMPERATURE:
            warnings.warn(
                f"{name}: the fit ran to its limit, temperature {one.temperature:.0f}: what the model says on it has nothing to "
                "do with these ratings, or they are too few",
                stacklevel=2,
            )
    return found


def cross_fitted(items: Mapping[str, CalibrationItems], kind: str, folds: int = 5) -> dict[str, CalibrationItems]:
    """The items with distributions recalibrated by maps that were fitted without their prompts.

    Args:
        items: of `calibration_table.items_of`.
        kind: one of `KINDS`.
        folds: parts of the prompts, each left out once; at most as many as there are prompts.
    """
    found = {}
    for name, part in items.items():
        codes = group_codes(part.group, len(part.group))
        prompts = int(codes.max()) + 1
        if prompts < 2:
            raise InputError(
                "all pictures have one prompt: a calibration cannot be tried on prompts that it did not see"
            )
        home = np.random.default_rng(0).permutation(prompts)[codes] % min(folds, prompts)
        probs = part.probs.clone()
        for fold in range(int(home.max()) + 1):
            inside = home == fold
            by = _fit(part.probs[~inside], part.counts[~inside], kind)
            probs[inside] = _recalibrated(part.probs[inside], by, kind)
        found[name] = part._replace(probs=probs)
    return found


def recalibrated(
    items: Mapping[str, CalibrationItems], by: Mapping[str, Recalibration], kind: str
) -> dict[str, CalibrationItems]:
    """The items with distributions recalibrated by given maps."""
    return {name: part._replace(probs=_recalibrated(part.probs, by[name], kind)) for name, part in items.items()}


def _recalibrated(probs_MKS: Tensor, by: Recalibration, kind: str) -> Tensor:
    log_probs = probs_MKS.clamp_min(torch.finfo(torch.float32).tiny).log()
    return recalibrate(log_probs.flatten(0, 1), by, kind).view_as(probs_MKS)


def _fit(probs_MKS: Tensor, counts_MS: np.ndarray, kind: str) -> Recalibration:
    share_MS = torch.from_numpy(counts_MS / counts_MS.sum(1, keepdims=True))
    log_probs = probs_MKS.double().clamp_min(torch.finfo(torch.float32).tiny).log()

    def loss(x: Any) -> tuple[float, Any]:
        log_temperature, shift = point = torch.tensor(x, dtype=torch.float64, requires_grad=True).unbind()
        after = _differentiable(log_probs, log_temperature.exp(), shift, kind).mean(1)
        value = -(share_MS * after.clamp_min(_SMALLEST).log()).sum(1).mean()
        gradient = torch.autograd.grad(value, point, allow_unused=True)
        return value.item(), np.array([0.0 if one is None else one.item() for one in gradient])

    most = math.log(MOST_TEMPERATURE)
    bounds = [(-most, most), (-MOST_SHIFT, MOST_SHIFT) if kind == "ordinal" else (0.0, 0.0)]
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
    log_temperature, shift = map(float, found.x)
    temperature = min(max(math.exp(log_temperature), 1 / MOST_TEMPERATURE), MOST_TEMPERATURE)
    return Recalibration(temperature, min(max(shift, -MOST_SHIFT), MOST_SHIFT))


def _differentiable(log_probs_MKS: Tensor, temperature: Tensor, shift: Tensor, kind: str) -> Tensor:
    flat = log_probs_MKS.flatten(0, 1)
    return recalibrate(flat, _Point(temperature, shift), kind).view_as(log_probs_MKS)  # type: ignore[arg-type]


class _Point:
    """A map whose numbers are tensors."""

    def __init__(self, temperature: Tensor, shift: Tensor) -> None:
        self.temperature, self.shift = temperature, shift
