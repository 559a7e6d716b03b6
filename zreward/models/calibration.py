"""Post-hoc calibration of score distributions: a small map for each dimension, fitted on dev ratings, stored in `zreward.json`.

Letters: N items, D dimensions, S bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zreward.common.errors import InputError, shown
from zreward.distribution import ScoreDistribution

KINDS = ("temperature", "ordinal")
FORMS = ("direct", "reasoning")
MOST_TEMPERATURE = 100.0
MOST_SHIFT = 50.0


@dataclass(frozen=True)
class Recalibration:
    """The map of one dimension.

    temperature: log p_s / T, normalised again: sharper below T = 1, wider above.
    ordinal: cumulative logits, logit F_s -> (logit F_s - shift) / T, as in a proportional-odds model: a shift above 0 moves
    the distribution to higher scores. Keeps the order of the bins in mind, which a temperature does not.
    pair_scale: of comparisons: the logit of P(a better than b), of independent draws, is multiplied by it. What a model errs
    in, and how strict a rater is, is much the same for two pictures of one prompt, so comparisons are surer than that: it is
    above 1. All are ours, not the paper's.
    """

    temperature: float = 1.0
    shift: float = 0.0
    pair_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("temperature", 1 / MOST_TEMPERATURE, MOST_TEMPERATURE),
            ("shift", -MOST_SHIFT, MOST_SHIFT),
            ("pair_scale", 1 / MOST_TEMPERATURE, MOST_TEMPERATURE),
        ):
            value = getattr(self, name)
            known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not known or not least <= value <= most:
                raise InputError(f"calibration: {name} is {shown(value)}, expected a number from {least:g} to {most:g}")


@dataclass(frozen=True)
class Calibration:
    """How the answers of one form, direct or after reasoning, are recalibrated.

    Args:
        kind: one of `KINDS`.
        dimensions: the map of every dimension that was fitted; others stay as they are.
        traces: with reasoning, the number of traces whose mean distribution was fitted; else 0.
        fitted_on: what it was fitted on, for people.
    """

    kind: str
    dimensions: Mapping[str, Recalibration]
    traces: int = 0
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"calibration: kind is {shown(self.kind)}, expected one of {', '.join(KINDS)}")

    @classmethod
    def from_dict(cls, data: Any) -> Calibration:
        """What `to_dict` returned. InputError for anything else."""
        if not isinstance(data, Mapping) or not isinstance(data.get("dimensions"), Mapping):
            raise InputError(f"calibration is {shown(data)}, expected kind and dimensions")
        unknown = set(data) - {"kind", "dimensions", "traces", "fitted_on"}
        traces, fitted_on = data.get("traces", 0), data.get("fitted_on", {})
        if unknown or not isinstance(traces, int) or not isinstance(fitted_on, Mapping):
            raise InputError(
                f"calibration has {sorted(map(str, unknown)) or shown((traces, fitted_on))}, which it should not"
            )
        try:
            dimensions = {str(name): Recalibration(**value) for name, value in data["dimensions"].items()}
        except TypeError as error:
            raise InputError(f"calibration: {error}; expected temperature, shift and pair_scale") from None
        return cls(data.get("kind", ""), dimensions, traces, dict(fitted_on))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "dimensions": {name: asdict(one) for name, one in self.dimensions.items()},
            "traces": self.traces,
            "fitted_on": dict(self.fitted_on),
        }

    def __call__(self, scores: ScoreDistribution) -> ScoreDistribution:
        """Recalibrated distributions, differentiable; dimensions without a map are unchanged."""
        log_probs = scores.log_probs
        parts = [
            recalibrate(log_probs[:, d], self.dimensions[name], self.kind)
            if name in self.dimensions
            else scores.probs[:, d]
            for d, name in enumerate(scores.dimensions)
        ]
        return ScoreDistribution(
            torch.stack(parts, 1), scores.bins, scores.dimensions, self.pair_scale(scores.dimensions)
        )

    def pair_scale(self, dimensions: Sequence[str]) -> Tensor | None:
        """Of the named dimensions [D]; None where all are 1."""
        scales = [self.dimensions[name].pair_scale if name in self.dimensions else 1.0 for name in dimensions]
        return torch.tensor(scales, dtype=torch.float64) if any(scale != 1 for scale in scales) else None


def pair_scale(calibrations: Mapping[str, Calibration], form: str, dimensions: Sequence[str]) -> Tensor | None:
    """What comparisons of a form's scores are scaled by [D], for distributions that are put together from probabilities.

    Args:
        calibrations: form -> calibration, of a model.
        form: one of `FORMS`.
        dimensions: D names.
    """
    return calibrations[form].pair_scale(dimensions) if form in calibrations else None


def recalibrate(log_probs_NS: Tensor, by: Recalibration, kind: str) -> Tensor:
    """(N, S) log-probabilities -> (N, S) probabilities, differentiable."""
    if kind == "temperature":
        return torch.softmax(log_probs_NS / by.temperature, -1)
    below = torch.logcumsumexp(log_probs_NS, -1)[:, :-1]
    above = torch.logcumsumexp(log_probs_NS.flip(-1), -1).flip(-1)[:, 1:]
    cdf = torch.sigmoid((below - above - by.shift) / by.temperature)
    ends = torch.zeros_like(cdf[:, :1])
    probs = torch.diff(torch.cat([ends, cdf, ends + 1], -1), dim=-1).clamp_min(0)
    return probs / probs.sum(-1, keepdim=True)


def read_calibrations(stored: Any) -> dict[str, Calibration]:
    """The part `calibration` of `zreward.json`: form -> calibration."""
    if not isinstance(stored, Mapping) or not set(stored) <= set(FORMS):
        raise InputError(f"calibration is {shown(stored)}, expected some of {', '.join(FORMS)}")
    return {form: Calibration.from_dict(value) for form, value in stored.items()}


def calibrations_dict(calibrations: Mapping[str, Calibration]) -> dict[str, Any]:
    """What `read_calibrations` reads."""
    return {form: one.to_dict() for form, one in calibrations.items()}
