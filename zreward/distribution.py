"""Score scales, and probability distributions over the scores of a rubric.

The reward is a distribution over rubric scores, not a number; everything downstream (expected score, spread, preference)
is read from it. Shapes: N items, D dimensions, S bins.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib import import_module
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from zreward.common.errors import InputError, NotFiniteError, shown

GAP_TOLERANCE = 1e-6  # score units; smaller differences are ties
LEAST_CHANCE = 1e-6
"""Logits of probabilities nearer to 0 or 1 are those of this one."""
_MOST_BINS = 256
_ON_BIN = 1e-6  # a score this close to a bin, in steps, is on the bin
_SHOWN = 10  # items in a printed distribution
_SUM_TOLERANCE = 1e-3  # rows of probabilities may miss one by this much (half-precision inputs)


@dataclass(frozen=True)
class ScoreScale:
    """Equally spaced scores; the paper's nine half-point bins are the default (its section 1).

    Args:
        min: the lowest score.
        max: the highest score.
        step: between neighbouring scores; divides the range into at most 255 equal steps.

    Raises:
        InputError: numbers that form no such scale.
    """

    min: float = 1.0
    max: float = 5.0
    step: float = 0.5

    def __post_init__(self) -> None:
        for key in ("min", "max", "step"):
            value = getattr(self, key)
            if not _is_finite(value):
                raise InputError(f"score scale: {key} is {shown(value)}, expected a finite number")
            object.__setattr__(self, key, float(value))
        if self.max <= self.min or self.step <= 0:
            raise InputError(f"score scale: expected min < max and step > 0, got {self.to_dict()}")
        steps = self.range / self.step
        if not steps < _MOST_BINS:
            raise InputError(f"score scale: {self.to_dict()} has more than {_MOST_BINS} bins; choose a larger step")
        if abs(steps - round(steps)) > _ON_BIN:
            raise InputError(f"score scale: {self.step} does not divide {self.min}..{self.max} into equal steps")

    def __len__(self) -> int:
        return round(self.range / self.step) + 1

    @property
    def range(self) -> float:
        """R = max - min, in score units: the normaliser of Eq. 7, 10 and 11."""
        return self.max - self.min

    @property
    def bins(self) -> Tensor:
        """[S] float32: the score of every bin, rising."""
        return torch.linspace(self.min, self.max, len(self), dtype=torch.float64).float()

    def validate(self, score: float, what: str = "score") -> float:
        """`score` as a float; InputError when it is no finite number between min and max (between bins is fine)."""
        if not _is_finite(score):
            raise InputError(f"{what} is {shown(score)}, expected a finite number from {self.min:g} to {self.max:g}")
        if not self.min - _ON_BIN <= score <= self.max + _ON_BIN:
            raise InputError(
                f"{what} {score:g} is off the scale {self.min:g} to {self.max:g}; map it to the scale first"
            )
        return min(max(float(score), self.min), self.max)

    def soft_target(self, score: float) -> Tensor:
        """[S]: one-hot on a bin, else linear on the two neighbours, so that the expectation is the score (ours)."""
        position = (self.validate(score) - self.min) / self.step
        nearest = round(position)
        target = torch.zeros(len(self))
        if abs(position - nearest) <= _ON_BIN:
            target[nearest] = 1.0
            return target
        low = math.floor(position)
        target[low + 1] = position - low
        target[low] = 1.0 - target[low + 1]
        return target

    def histogram(self, scores: Iterable[float], smoothing: float = 0.0) -> Tensor:
        """Mean of the raters' soft targets.

        Args:
            scores: one or more ratings on the scale.
            smoothing: standard deviation, in score units, of a Gaussian that spreads each bin over its neighbours; the
                kernel is renormalised at the ends of the scale. 0: none.

        Returns:
            Probabilities [S].

        Raises:
            InputError: no scores, one off the scale, a negative smoothing.
        """
        targets = [self.soft_target(score) for score in scores]
        if not targets:
            raise InputError("histogram of no scores: expected at least one rating")
        if not math.isfinite(smoothing) or smoothing < 0:
            raise InputError(f"smoothing is {smoothing!r}, expected a standard deviation of 0 or more in score units")
        target = torch.stack(targets).mean(0)
        if smoothing == 0:
            return target
        distance = (self.bins[:, None] - self.bins[None, :]) / smoothing
        return target @ torch.softmax(-0.5 * distance.square(), dim=-1)

    def to_dict(self) -> dict[str, float]:
        """{"min", "max", "step"}."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScoreScale:
        """A scale from what `to_dict` returned; missing keys take their defaults. InputError for unknown keys."""
        if not isinstance(data, Mapping) or set(data) - {"min", "max", "step"}:
            raise InputError(f"score scale: expected a mapping with the keys min, max, step, got {shown(data)}")
        return cls(**data)


def split_spread(trace_probs: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Where the spread of the mean over K traces comes from: standard deviations within and between the traces, score units.

    within: the root of the traces' mean variance, how far people differ after one and the same reasoning (taste).
    between: the deviation of the traces' expected scores, how far the model's own reasonings differ (doubt). Their squares add up
    to the variance of the mean distribution (law of total variance). Ours, not the paper's.

    Args:
        trace_probs: probabilities [..., K, S].
        bins: scores of the bins [S].

    Returns:
        Two tensors [...].
    """
    mean = (trace_probs * bins.to(trace_probs)).sum(-1)
    second = (trace_probs * bins.to(trace_probs).square()).sum(-1)
    within = (second - mean.square()).clamp_min(0).mean(-1).sqrt()
    return within, mean.std(-1, correction=0)


def scale_logit(chance: Tensor, scale: Tensor) -> Tensor:
    """Probabilities whose logit is multiplied: surer above 1, less sure below; 1/2 stays, and so does all where scale is 1.

    Differentiable; LEAST_CHANCE bounds the logits.
    """
    return torch.where(scale == 1, chance, torch.sigmoid(scale * torch.logit(chance, eps=LEAST_CHANCE)))


def _is_finite(value: Any) -> bool:
    """Whether a value is a real number that a float can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@dataclass(eq=False)
class ScoreDistribution:
    """Probabilities over score bins, one distribution per item and dimension. All but `quantile` is differentiable.

    Args:
        probs: [N, D, S], each row sums to one.
        bins: scores of the bins [S], rising.
        dimensions: D names, all different.
        pair_scale: for `prefers`, [D]: the logit of a comparison of independent draws is multiplied by it; a calibration
            sets it. Above 1 where what is unsure of two pictures is the same for both. None: 1.

    Raises:
        ValueError: shapes that do not fit, negative probabilities, rows that do not sum to one.
        NotFiniteError: NaN or infinite probabilities, with item and dimension.
    """

    probs: Tensor
    bins: Tensor
    dimensions: tuple[str, ...]
    pair_scale: Tensor | None = None

    def __post_init__(self) -> None:
        self.dimensions = tuple(self.dimensions)
        if self.probs.dtype not in (torch.float32, torch.float64):
            self.probs = self.probs.float()
        self.bins = self.bins.detach().to(self.probs)
        expected = (len(self.dimensions), len(self.bins)) if self.bins.ndim == 1 else None
        if self.probs.shape[1:] != expected:
            raise ValueError(
                f"score distribution: probs are {list(self.probs.shape)}, bins {list(self.bins.shape)}, dimensions "
                f"{self.dimensions}; expected probs [N, D, S], bins [S] and D names"
            )
        if len(set(self.dimensions)) != len(self.dimensions):
            raise ValueError(f"score distribution: repeated names in the dimensions {self.dimensions}")
        if not (self.bins.diff() > 0).all():
            raise ValueError(f"score distribution: bins must rise, got {self.bins.tolist()}")
        if self.pair_scale is not None:
            self.pair_scale = self.pair_scale.detach().to(self.probs)
            if (
                self.pair_scale.shape != (len(self.dimensions),)
                or not ((self.pair_scale > 0) & self.pair_scale.isfinite()).all()
            ):
                raise ValueError(
                    f"score distribution: pair_scale is {self.pair_scale.tolist()}, expected a positive number for each of "
                    f"{self.dimensions}"
                )
        probs = self.probs
        bad = ~torch.isfinite(probs).all(-1) | (probs < 0).any(-1) | ((probs.sum(-1) - 1).abs() > _SUM_TOLERANCE)
        if bad.any():
            item, dim = bad.nonzero()[0].tolist()
            if not torch.isfinite(probs[item, dim]).all():
                raise NotFiniteError(item, self.dimensions[dim])
            raise ValueError(
                f"score distribution: item {item}, dimension {self.dimensions[dim]!r} has probabilities "
                f"{probs[item, dim].tolist()}; expected non-negative numbers that sum to 1"
            )

    @classmethod
    def from_logits(cls, logits: Tensor, bins: Tensor, dimensions: Sequence[str]) -> ScoreDistribution:
        """Softmax over the label logits, in float32 (float64 stays): Eq. 1 and 6 before the mean.

        Args:
            logits: of the S labels [N, D, S].
            bins: scores of the labels [S], rising.
            dimensions: D names.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return cls(torch.softmax(logits, dim=-1), bins, tuple(dimensions))

    @classmethod
    def cat(cls, distributions: Sequence[ScoreDistribution]) -> ScoreDistribution:
        """Along N; bins and dimensions must be the same in all."""
        if not distributions:
            raise ValueError("cat of no score distributions: expected at least one")
        first, *others = distributions
        for other in others:
            first._check_same_space(other)
        return cls(torch.cat([d.probs for d in distributions]), first.bins, first.dimensions, first.pair_scale)

    @property
    def mean(self) -> Tensor:
        """[N, D]: mu, the expected score (Eq. 2, 6, 16)."""
        return (self.probs * self.bins).sum(-1)

    @property
    def std(self) -> Tensor:
        """[N, D], score units. The gradient at a one-hot distribution is zero instead of infinite."""
        variance = (self.probs * (self.bins - self.mean.unsqueeze(-1)).square()).sum(-1)
        positive = variance > 0
        return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)

    @property
    def log_probs(self) -> Tensor:
        """[N, D, S], finite: a probability of zero counts as the smallest normal number."""
        return self.probs.clamp_min(torch.finfo(self.probs.dtype).tiny).log()

    @property
    def entropy(self) -> Tensor:
        """[N, D], nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def quantile(self, q: float) -> Tensor:
        """[N, D]: the smallest bin whose cumulative probability reaches q (within 1e-6)."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"quantile {q!r}: expected a number from 0 to 1")
        cdf = self.probs.double().cumsum(-1)
        index = (cdf / cdf[..., -1:] < q - 1e-6).sum(-1)
        return self.bins[index]

    def prefers(self, other: ScoreDistribution) -> Tensor:
        """P(self > other) + 1/2 P(tie) for independent draws, its logit times `pair_scale` where a calibration has set one.

        Args:
            other: over the same dimensions and bins; N items, or one side may have a single item.

        Returns:
            Probabilities [N, D].

        Raises:
            ValueError: other dimensions, bins, calibrations or numbers of items.
        """
        self._check_same_space(other)
        if len(self) != len(other) and 1 not in (len(self), len(other)):
            raise ValueError(
                f"prefers: {len(self)} items against {len(other)}; expected equal numbers, or one item on a side"
            )
        other_probs = other.probs.to(self.probs)
        mid_cdf = other_probs.cumsum(-1) - 0.5 * other_probs
        chance = (self.probs * mid_cdf).sum(-1)
        return chance if self.pair_scale is None else scale_logit(chance, self.pair_scale)

    def __len__(self) -> int:
        return self.probs.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> ScoreDistribution:
        """Items by number (N becomes 1), slice or index list."""
        rows: slice | Tensor | list[int]
        if isinstance(index, (slice, Tensor)):
            rows = index
        elif isinstance(index, Iterable):
            rows = list(index)
        else:
            number = operator.index(index)
            if not -len(self) <= number < len(self):
                raise IndexError(f"item {index} of {len(self)}")
            rows = [number]
        return self._map(lambda probs: probs[rows])

    def select(self, dimensions: Sequence[str]) -> ScoreDistribution:
        """The named dimensions, in the order given."""
        unknown = [name for name in dimensions if name not in self.dimensions]
        if unknown or isinstance(dimensions, str):
            raise ValueError(f"dimensions {dimensions!r}: expected a list of names from {self.dimensions}")
        index = [self.dimensions.index(name) for name in dimensions]
        pair_scale = None if self.pair_scale is None else self.pair_scale[index]
        return ScoreDistribution(self.probs[:, index], self.bins, tuple(dimensions), pair_scale)

    def to(self, device: torch.device | str) -> ScoreDistribution:
        """The same distributions on another device."""
        return self._map(lambda probs: probs.to(device))

    def detach(self) -> ScoreDistribution:
        """The same distributions without gradient."""
        return self._map(Tensor.detach)

    def to_dicts(self) -> list[dict[str, dict[str, Any]]]:
        """One {dimension: {"mean", "std", "probs"}} of plain numbers per item, for JSON."""
        mean, std, probs = self.mean.tolist(), self.std.tolist(), self.probs.tolist()
        return [
            {
                name: {"mean": mean[n][d], "std": std[n][d], "probs": probs[n][d]}
                for d, name in enumerate(self.dimensions)
            }
            for n in range(len(self))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists: dimensions (D), bins (S), mean and std (N, D), probs (N, D, S)."""
        numbers = {name: getattr(self, name).tolist() for name in ("bins", "mean", "std", "probs")}
        return {"dimensions": list(self.dimensions), **numbers}

    def to_pandas(self) -> Any:
        """A DataFrame with a row for every item and dimension: item, dimension, mean, std, and a column for every bin.

        InputError where pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError:
            raise InputError("to_pandas: pandas is missing; pip install pandas, or use to_dict()") from None
        rows = [
            {"item": n, "dimension": name, "mean": score["mean"], "std": score["std"]}
            | {f"{value:g}": p for value, p in zip(self.bins.tolist(), score["probs"], strict=True)}
            for n, scores in enumerate(self.to_dicts())
            for name, score in scores.items()
        ]
        return pandas.DataFrame(
            rows, columns=["item", "dimension", "mean", "std", *(f"{b:g}" for b in self.bins.tolist())]
        )

    def __repr__(self) -> str:
        head, *rows = self._cells()
        width = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(size) for cell, size in zip(row, width, strict=True)).rstrip() for row in (head, *rows)
        ]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        head, *rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self._cells()]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><caption>{self._title()}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _title(self) -> str:
        count = "1 item" if len(self) == 1 else f"{len(self):,} items"
        low, high = self.bins[0], self.bins[-1]
        return f"ScoreDistribution: {count}, expected scores from {low:g} to {high:g} ± standard deviation"

    def _cells(self) -> list[list[str]]:
        """A header and a row for each of the first items."""
        shown = zip(self.mean[:_SHOWN], self.std[:_SHOWN], strict=True)
        rows = [
            [str(n), *(f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, std, strict=True))]
            for n, (mean, std) in enumerate(shown)
        ]
        more = [["...", *("" for _ in self.dimensions)]] if len(self) > _SHOWN else []
        return [["", *self.dimensions], *rows, *more]

    def _map(self, function: Callable[[Tensor], Tensor]) -> ScoreDistribution:
        return ScoreDistribution(function(self.probs), self.bins, self.dimensions, self.pair_scale)

    def _check_same_space(self, other: ScoreDistribution) -> None:
        if self.dimensions != other.dimensions:
            raise ValueError(
                f"different dimensions: {self.dimensions} and {other.dimensions}; select() the common ones"
            )
        if self.bins.tolist() != other.bins.to(self.bins).tolist():
            raise ValueError(f"different bins: {self.bins.tolist()} and {other.bins.tolist()}")
        mine, theirs = (None if one.pair_scale is None else one.pair_scale.tolist() for one in (self, other))
        if mine != theirs:
            raise ValueError(f"different calibrations: comparisons are scaled by {mine} and by {theirs}")
