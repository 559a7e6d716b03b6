"""Calibration of a model on rated records, a row per dimension: distributions, and preferences between pictures of one prompt.

Shapes: M rated items, K traces (1 without reasoning), S bins.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from zreward.common.errors import InputError
from zreward.data.record import Record
from zreward.distribution import GAP_TOLERANCE, ScoreDistribution, scale_logit, split_spread
from zreward.evaluation.calibration import LEVELS, interval_coverage, spread, wasserstein
from zreward.evaluation.metrics import crps, expected_calibration_error, nll, srcc
from zreward.evaluation.prediction import Predictions, rated_items
from zreward.evaluation.preferences import preference_brier, preference_ece
from zreward.evaluation.tables import POOLED, Column, format_value

COLUMNS = (
    Column("nll", "NLL", 3, -1),
    Column("crps", "CRPS", 3, -1),
    Column("wasserstein", "W1", 3, -1),
    *(Column(f"coverage_{round(100 * level)}", f"{round(100 * level)} %", 3, 0) for level in LEVELS),
    Column("ece", "ECE", 3, -1),
    Column("spread_srcc", "spread", 3, 1),
    Column("within_std", "within", 3, 0),
    Column("between_std", "between", 3, 0),
    Column("n_items", "items", 0, 0),
    Column("preference_brier", "Brier", 3, -1),
    Column("preference_ece", "pair ECE", 3, -1),
    Column("n_pairs", "pairs", 0, 0),
)
_OPTIONAL = ("wasserstein", "within_std", "between_std", "coverage_95", "coverage_50", "n_items", "ece")
PAIR_COLUMNS = ("preference_brier", "preference_ece", "n_pairs")


class CalibrationItems(NamedTuple):
    """The M rated items of a dimension, and the pairs among them that people compared."""

    probs: Tensor  # [M, K, S] float64: after each trace
    counts: np.ndarray  # [M, S] ratings per bin
    target: np.ndarray  # [M] people's scores
    group: list[Any]  # [M] prompt groups
    published: np.ndarray  # [M] standard deviations of the raters' scores, NaN where there is one rating
    pairs: np.ndarray  # [P, 2] numbers of items
    votes: np.ndarray  # [P, 3] votes for the first, for the second, for a tie
    pair_scale: np.ndarray  # [P] the logit of every pair's probability is multiplied by it; 1: independent draws


def items_of(predictions: Predictions, records: Sequence[Record]) -> dict[str, CalibrationItems]:
    """The rated items of every predicted dimension that the records rate. InputError: none is rated, a model that compares."""
    if predictions.compares:
        raise InputError(
            "the model compares two pictures: its answers are no scores, so there is no spread to calibrate"
        )
    parts = rated_items(predictions, records)
    of_traces = predictions.probs[:, None] if predictions.trace_probs is None else predictions.trace_probs
    return {
        name: _items(
            name,
            parts[name],
            of_traces[:, :, d].double(),
            records,
            1.0 if predictions.pair_scale is None else float(predictions.pair_scale[d]),
        )
        for d, name in enumerate(predictions.dimensions)
        if name in parts
    }


def _items(name: str, part: Any, probs_NKS: Tensor, records: Sequence[Record], pair_scale: float) -> CalibrationItems:
    rated = [n for n, record in enumerate(records) if record.ratings(name)]
    place = {id(records[n]): m for m, n in enumerate(rated)}
    sides, votes = _pairs([records[n] for n in rated], name, place)
    return CalibrationItems(
        probs_NKS[rated],
        part.counts,
        part.target,
        [key for key, _ in part.group],
        np.array([_published_spread(records[n], name) for n in rated]),
        sides,
        votes,
        np.full(len(sides), pair_scale),
    )


def _published_spread(record: Record, name: str) -> float:
    if name in record.stds:
        return record.stds[name]
    ratings = record.ratings(name)
    return float(np.std(ratings)) if len(ratings) > 1 else float("nan")


def _pairs(records: list[Record], name: str, place: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of one prompt, and what the same raters say of both; of unnamed raters every rating of one is set beside every one
    of the other."""
    sides, votes = [], []
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group_key, []).append(record)
    for group in groups.values():
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                counts = _votes(a, b, name)
                if counts is not None:
                    sides.append((place[id(a)], place[id(b)]))
                    votes.append(counts)
    return np.array(sides, dtype=int).reshape(-1, 2), np.array(votes, dtype=float).reshape(-1, 3)


def _votes(a: Record, b: Record, name: str) -> tuple[float, float, float] | None:
    """Votes for a, for b and for a tie; None where no rater rated both, or only a mean is known."""
    if name in a.stds or name in b.stds:
        return None
    mine, other = a.scores[name], b.scores[name]
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
        both = [(mine[rater], other[rater]) for rater in mine if rater in other]
        gaps = [x - y for x, y in both if x is not None and y is not None]
        better, worse = sum(gap > GAP_TOLERANCE for gap in gaps), sum(gap < -GAP_TOLERANCE for gap in gaps)
        return (float(better), float(worse), float(len(gaps) - better - worse)) if gaps else None
    left, right = np.array(a.ratings(name)), np.sort(b.ratings(name))
    if not len(left) or not len(right):
        return None
    better = np.searchsorted(right, left - GAP_TOLERANCE, "left").sum()
    worse = (len(right) - np.searchsorted(right, left + GAP_TOLERANCE, "right")).sum()
    return float(better), float(worse), float(len(left) * len(right) - better - worse)


def calibration_rows(items: Mapping[str, CalibrationItems], bins: Any) -> list[dict[str, Any]]:
    """A row per dimension, and "all" for the items of all dimensions together; the keys are those of `COLUMNS`.

    `coverage_80` is the share of the raters' scores inside the central 80 % interval (`interval_coverage`), `spread_srcc` the
    rank correlation of predicted and raters' standard deviations. With several traces, `within_std` and `between_std` are the
    means of `split_spread`. Pairs are pictures of one prompt that people compared: P(a better than b) (`prefers`)
    against the raters' share. What has no data is NaN.
    """
    everything = {**items, POOLED: together(list(items.values()))} if len(items) > 1 else dict(items)
    return [_row(name, part, np.asarray(bins, dtype=float)) for name, part in everything.items()]


def pair_probabilities(part: CalibrationItems) -> np.ndarray:
    """[P] P(first better than second), a tie half, from the mean over the traces: `ScoreDistribution.prefers`."""
    mean = part.probs.mean(1)[:, None]
    bins, names = torch.arange(mean.shape[-1], dtype=mean.dtype), ("all",)
    first, second = (ScoreDistribution(mean[part.pairs[:, side]], bins, names) for side in (0, 1))
    return scale_logit(first.prefers(second)[:, 0].clamp(0, 1), torch.from_numpy(part.pair_scale)).numpy()


def together(parts: Sequence[CalibrationItems]) -> CalibrationItems:
    """Items of several dimensions as one part; pairs stay within a dimension."""
    starts = np.cumsum([0, *(len(part.counts) for part in parts)])
    return CalibrationItems(
        torch.cat([part.probs for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.target for part in parts]),
        [(number, key) for number, part in enumerate(parts) for key in part.group],
        np.concatenate([part.published for part in parts]),
        np.concatenate([part.pairs + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.votes for part in parts]),
        np.concatenate([part.pair_scale for part in parts]),
    )


def _row(name: str, part: CalibrationItems, bins: np.ndarray) -> dict[str, Any]:
    probs, nan = part.probs.mean(1).numpy(), float("nan")
    probs = probs / probs.sum(1, keepdims=True)
    several = ~np.isnan(part.published)
    within, between = split_spread(part.probs, torch.from_numpy(bins))
    voted = len(part.pairs) > 0
    chance = pair_probabilities(part) if voted else np.array([])
    return {
        "dimension": name,
        "nll": nll(np.maximum(probs, np.finfo(np.float32).tiny), part.counts),
        "crps": crps(probs, part.counts, bins),
        "wasserstein": wasserstein(probs, part.counts, bins),
        **{f"coverage_{round(100 * level)}": interval_coverage(probs, part.counts, level) for level in LEVELS},
        "ece": expected_calibration_error(probs @ bins, part.target),
        "spread_srcc": srcc(spread(probs, bins)[several], part.published[several]) if several.sum() > 1 else nan,
        "within_std": float(within.mean()) if part.probs.shape[1] > 1 else nan,
        "between_std": float(between.mean()) if part.probs.shape[1] > 1 else nan,
        "preference_brier": preference_brier(chance, part.votes) if voted else nan,
        "preference_ece": preference_ece(chance, part.votes) if voted else nan,
        "n_items": len(part.counts),
        "n_pairs": len(part.pairs),
    }


def print_calibration(rows: Sequence[Mapping[str, Any]], title: str, console: Console | None = None) -> None:
    """Print rows of `calibration_rows` as two tables, distributions and pairs; a first column `model` where the rows have one.

    Columns without values are left out. Numbers are never cut: output to a file gets the width it needs; a narrow terminal
    hides the first of `_OPTIONAL`.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    names = [key for key in ("model", "dimension") if key in rows[0]]
    filled = [column for column in COLUMNS if any(np.isfinite(row[column.key]) for row in rows)]
    _print(rows, title, names, [column for column in filled if column.key not in PAIR_COLUMNS], console)
    if any(row["n_pairs"] for row in rows):
        _print(rows, "Pairs", names, [column for column in filled if column.key in PAIR_COLUMNS], console)


def _print(
    rows: Sequence[Mapping[str, Any]], title: str, names: Sequence[str], columns: Sequence[Column], console: Console
) -> None:
    cells = {key: [key, *(escape(str(row[key])) for row in rows)] for key in names}
    cells |= {c.key: [c.title, *(format_value(row[c.key], c.digits) for row in rows)] for c in columns}
    width = {key: max(map(len, column)) for key, column in cells.items()}
    for key in _OPTIONAL:
        if key in width and sum(width.values()) + len(width) + 2 > console.width:
            del cells[key], width[key]
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for key, (heading, *_) in cells.items():
        table.add_column(heading, justify="left" if key in names else "right", no_wrap=True, min_width=width[key])
    for line in zip(*(column[1:] for column in cells.values()), strict=True):
        table.add_row(*line)
    console.print(table)
