"""Fit a calibration to raters' scores, and say what it changes on prompts that it was not fitted on.

Shapes: M rated items of a dimension, K traces (1 without reasoning), S bins.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from zreward.common.errors import InputError
from zreward.distribution import LEAST_CHANCE
from zreward.evaluation.calibration_table import CalibrationItems, pair_probabilities
from zreward.evaluation.metrics import group_codes
from zreward.models.calibration import KINDS, MOST_SHIFT, MOST_TEMPERATURE, Recalibration, recalibrate

FEWEST = 20
"""Rated items of a dimension: with fewer, two numbers fit chance."""
_SMALLEST = 1e-12
_FLAT = 0.99


def fit(items: Mapping[str, CalibrationItems], kind: str) -> dict[str, Recalibration]:
    """The map of every dimension that makes the raters' scores most likely, then the scale of comparisons that makes their votes
    on pairs of one prompt most likely (1 where there are fewer than `FEWEST` pairs). Every item and every pair counts alike.

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
    found = {name: _fit(part, kind) for name, part in items.items()}
    for name, one in found.items():
        if one.temperature > _FLAT * MOST_TEMPERATURE:
            warnings.warn(
                f"{name}: the fit ran to its limit, temperature {one.temperature:.0f}: what the model says on it has nothing to "
                "do with these ratings, or they are too few",
                stacklevel=2,
            )
        if not 1 / (_FLAT * MOST_TEMPERATURE) < one.pair_scale < _FLAT * MOST_TEMPERATURE:
            warnings.warn(
                f"{name}: the fit of comparisons ran to its limit, scale {one.pair_scale:.3g}: the votes on these pairs are all "
                "alike, or they are too few",
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
        probs, pair_scale = part.probs.clone(), part.pair_scale.copy()
        for fold in range(int(home.max()) + 1):
            inside = home == fold
            by = _fit(_those(part, ~inside), kind)
            probs[inside] = _recalibrated(part.probs[inside], by, kind)
            pair_scale[inside[part.pairs[:, 0]]] = by.pair_scale  # both pictures of a pair have one prompt
        found[name] = part._replace(probs=probs, pair_scale=pair_scale)
    return found


def recalibrated(
    items: Mapping[str, CalibrationItems], by: Mapping[str, Recalibration], kind: str
) -> dict[str, CalibrationItems]:
    """The items with distributions recalibrated by given maps."""
    return {
        name: part._replace(
            probs=_recalibrated(part.probs, by[name], kind), pair_scale=np.full(len(part.pairs), by[name].pair_scale)
        )
        for name, part in items.items()
    }


def _those(part: CalibrationItems, chosen: np.ndarray) -> CalibrationItems:
    """The chosen items [M], and the pairs of which both pictures are among them."""
    place = np.cumsum(chosen) - 1
    both = chosen[part.pairs].all(1)
    return CalibrationItems(
        part.probs[torch.from_numpy(chosen)],
        part.counts[chosen],
        part.target[chosen],
        [key for key, inside in zip(part.group, chosen, strict=True) if inside],
        part.published[chosen],
        place[part.pairs[both]],
        part.votes[both],
        part.pair_scale[both],
    )


def _recalibrated(probs_MKS: Tensor, by: Recalibration, kind: str) -> Tensor:
    log_probs = probs_MKS.clamp_min(torch.finfo(torch.float32).tiny).log()
    return recalibrate(log_probs.flatten(0, 1), by, kind).view_as(probs_MKS)


def _fit(part: CalibrationItems, kind: str) -> Recalibration:
    found = _fit_spread(part.probs, part.counts, kind)
    if len(part.pairs) < FEWEST:
        return found
    return replace(found, pair_scale=_fit_pairs(part._replace(probs=_recalibrated(part.probs, found, kind))))


def _fit_pairs(part: CalibrationItems) -> float:
    """What the logits of independent draws are to be multiplied by to make the raters' votes most likely."""
    chance = pair_probabilities(part._replace(pair_scale=np.ones(len(part.pairs))))
    logit = torch.logit(torch.from_numpy(chance), eps=LEAST_CHANCE).numpy()
    share = (part.votes[:, 0] + part.votes[:, 2] / 2) / part.votes.sum(1)

    def loss(log_scale: float) -> float:
        scaled = math.exp(log_scale) * logit
        return float((np.logaddexp(0, scaled) - share * scaled).mean())

    most = math.log(MOST_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=(-most, most), method="bounded", options={"xatol": 1e-6}).x)


def _fit_spread(probs_MKS: Tensor, counts_MS: np.ndarray, kind: str) -> Recalibration:
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
