"""Run a model over rated records, and tabulate how well it agrees with people (the paper's section 5).

Ground truth is `Record.score`, the trimmed mean of an item's ratings; NLL and CRPS compare whole distributions with the
raters' histograms. Shapes: N records, D dimensions, S bins, M rated items of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zreward.common.errors import InputError, check_counts
from zreward.common.jobs import Job
from zreward.data.record import Record
from zreward.distribution import ScoreScale
from zreward.evaluation.asking import Questions, ask
from zreward.evaluation.metrics import crps, expected_calibration_error, nll, pair_counts, plcc, srcc
from zreward.evaluation.tables import MARGIN, POOLED, print_table
from zreward.models.calibration import pair_scale

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

__all__ = [
    "Predictions",
    "RatedItems",
    "evaluate",
    "metrics_table",
    "predict",
    "print_table",
    "rated_dimensions",
    "rated_items",
]


@dataclass(eq=False)
class Predictions:
    """What a model said about N records. Refuses probabilities that are not finite: no NaN reaches a table."""

    probs: Tensor
    """[N, D, S], over S they sum to one."""
    bins: Tensor
    """[S], the score of every bin, rising."""
    dimensions: tuple[str, ...]
    output_tokens: Tensor
    """[N, D]: 1 in the direct form; with reasoning the mean length of the sampled traces, and 1 for the label."""
    truncated: Tensor
    """[N, D]: share of the traces that the budget cut off."""
    seconds: float = 0.0
    compares: bool = False
    """Shares of comparisons won, not scores: what needs the human scale (NLL, CRPS, ECE) is not defined."""
    trace_probs: Tensor | None = None
    """[N, K, D, S]: after each of K traces; `probs` is their mean. None without reasoning."""
    pair_scale: Tensor | None = None
    """[D], of a calibrated model: `ScoreDistribution.pair_scale`."""

    def __post_init__(self) -> None:
        self.dimensions = tuple(self.dimensions)
        shape = (len(self.probs), len(self.dimensions))
        shapes = {"probs": tuple(self.probs.shape), "bins": tuple(self.bins.shape)}
        shapes |= {"output_tokens": tuple(self.output_tokens.shape), "truncated": tuple(self.truncated.shape)}
        expected = {"probs": (*shape, len(self.bins)), "bins": (len(self.bins),)}
        expected |= {"output_tokens": shape, "truncated": shape}
        if shapes != expected:
            raise ValueError(f"predictions over {self.dimensions}: got {shapes}, expected {expected}")
        bad = (~torch.isfinite(self.probs).all(-1)).nonzero()
        if len(bad):
            item, dimension = bad[0].tolist()
            raise InputError(
                f"prediction {item}, dimension {self.dimensions[dimension]!r}: probabilities "
                f"{self.probs[item, dimension].tolist()} ({len(bad)} such of {shape[0] * shape[1]}); "
                "the model is broken or overflows in its number format: check its weights, or load it in float32"
            )

    @property
    def mean(self) -> Tensor:
        """[N, D]: the expected score."""
        return (self.probs * self.bins.to(self.probs)).sum(-1)

    @property
    def scale(self) -> ScoreScale:
        low, high = float(self.bins[0]), float(self.bins[-1])
        return ScoreScale(low, high, (high - low) / (len(self.bins) - 1))

    def __len__(self) -> int:
        return len(self.probs)


def predict(
    model: RewardModel,
    records: Sequence[Record],
    dimensions: Sequence[str] | None = None,
    reasoning: bool = False,
    traces: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    temperature: float = 1.0,
    job: Job | None = None,
    together: bool = False,
) -> Predictions:
    """Score every record, directly or after reasoning.

    Sampling leaves torch's random state as it was, so evaluating does not disturb a training run. A model that compares
    gets every other picture of the record's prompt group as its reference; the answers are averaged.

    Args:
        model: the reward model.
        records: at least one; ratings are only checked against the rubric.
        dimensions: names; default all of the model's rubric.
        reasoning: sample traces before scoring.
        traces: traces per record and dimension, whose distributions are averaged.
        batch_size: records in a batch; default 32, with reasoning 8. Sampled traces depend on it.
        seed: of sampling.
        progress: show a progress bar.
        temperature: of sampling; 0 is greedy.
        job: this process, where all processes of a launch call this together: each asks its share of the batches, and each
            returns everything, as one process would; sampled traces of several batches are others than one process
            samples. Default: this process is alone.
        together: with `job`: every forward pass takes all processes, because the model's weights are sharded.

    Returns:
        Distributions, output tokens and truncation for every record and dimension.

    Raises:
        InputError: no records, an unknown dimension, an unreadable image, ratings of another rubric.
    """
    if not records:
        raise InputError("no records to evaluate; the data set is empty")
    check_counts(traces=traces, batch_size=batch_size)
    _check_records(model, records, dimensions)
    names = model.check_dimensions(dimensions)
    asked = Questions.about(records, compares=bool(model.forms.reference))
    found = ask(model, asked, names, reasoning, traces, batch_size, seed, progress, temperature, job, together)
    probs, tokens, truncated, of_traces = map(asked.by_record, found.answers)
    facts = (model.rubric.scale.bins, names, tokens, truncated, found.seconds, asked.pairs is not None)
    scale = pair_scale(model.calibrations, "reasoning" if reasoning else "direct", names)
    return Predictions(probs, *facts, of_traces if reasoning else None, scale)


def evaluate(
    model: RewardModel,
    records: Sequence[Record],
    dimensions: Sequence[str] | None = None,
    reasoning: bool = False,
    traces: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    temperature: float = 1.0,
) -> list[dict[str, Any]]:
    """Compare a model with people's ratings: `metrics_table` of `predict`.

    Args:
        model: the reward model.
        records: rated records.
        dimensions: names; default those that the records rate.
        reasoning: sample traces before scoring.
        traces: traces per record and dimension, whose distributions are averaged.
        batch_size: records in a batch; default 32, with reasoning 8.
        seed: of sampling.
        progress: show a progress bar.
        temperature: of sampling; 0 is greedy.

    Returns:
        A row per dimension, and one for all together ("all"): plcc, srcc, hpa, margin_hpa, tie_rate, nll, crps, ece,
        output_tokens, truncated, n_items, n_pairs.

    Raises:
        InputError: as `predict`; also records without ratings.
    """
    dimensions = rated_dimensions(model, records) if dimensions is None else dimensions
    predictions = predict(model, records, dimensions, reasoning, traces, batch_size, seed, progress, temperature)
    return metrics_table(predictions, records)


def rated_dimensions(model: RewardModel, records: Sequence[Record]) -> list[str]:
    """The rubric's dimensions that the records rate; InputError when there is none, or ratings do not fit the rubric."""
    _check_records(model, records, None)
    rated = {name for record in records for name in record.scores if record.ratings(name)}
    dimensions = [name for name in model.rubric.dimension_names if name in rated]
    if not dimensions:
        raise InputError(f"none of the {len(records)} records is rated; evaluation needs people's scores")
    return dimensions


class RatedItems(NamedTuple):
    """The M rated (record, dimension) items behind one row of the table."""

    pred: np.ndarray  # [M] expected scores
    target: np.ndarray  # [M] trimmed means
    probs: np.ndarray  # [M, S]
    counts: np.ndarray  # [M, S] ratings per bin
    group: list[tuple[str, str]]  # [M] (prompt group, dimension)
    output_tokens: np.ndarray  # [M]
    truncated: np.ndarray  # [M]


def _concatenate(parts: Sequence[RatedItems]) -> RatedItems:
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in RatedItems._fields if name != "group"
    }
    return RatedItems(**arrays, group=[key for part in parts for key in part.group])


def metrics_table(predictions: Predictions, records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per predicted dimension that the records rate, then "all": the items of all dimensions together.

    HPA counts pairs inside (prompt group, dimension), `n_pairs` of them. Records without a score on a dimension are
    left out there. What is undefined (a constant's correlation, HPA without pairs) is NaN.
    """
    if len(predictions) != len(records):
        raise ValueError(f"{len(predictions)} predictions for {len(records)} records; expected one for each")
    bins = predictions.bins.double().numpy()
    return [_row(name, part, bins) for name, part in rated_items(predictions, records).items()]


def rated_items(predictions: Predictions, records: Sequence[Record]) -> dict[str, RatedItems]:
    """The rated items of every predicted dimension that the records rate, and of all dimensions together ("all")."""
    items = {name: _items(predictions, records, name) for name in predictions.dimensions}
    items = {name: part for name, part in items.items() if len(part.pred)}
    if not items:
        raise InputError(f"none of the {len(records)} records is rated on {', '.join(predictions.dimensions)}")
    return items | {POOLED: _concatenate(list(items.values()))}


def _items(predictions: Predictions, records: Sequence[Record], name: str) -> RatedItems:
    column, scale = predictions.dimensions.index(name), predictions.scale
    rated = [n for n, record in enumerate(records) if record.ratings(name)]
    counts = [] if predictions.compares else [_counts(records[n], name, scale) for n in rated]
    probs = predictions.probs[rated, column].double().numpy()
    return RatedItems(
        pred=probs @ predictions.bins.double().numpy(),
        target=np.array([records[n].score(name) for n in rated], dtype=float),
        probs=probs,
        counts=np.stack(counts) if counts else np.full_like(probs, np.nan),
        group=[(records[n].group_key, name) for n in rated],
        output_tokens=predictions.output_tokens[rated, column].double().numpy(),
        truncated=predictions.truncated[rated, column].double().numpy(),
    )


def _counts(record: Record, name: str, scale: ScoreScale) -> np.ndarray:
    """[S] ratings per bin. A record that came as mean and spread counts as one rating, spread synthetically."""
    try:
        target = record.target(name, scale)
    except InputError as error:
        raise InputError(f"record {record.id or record.prompt!r}: {name}: {error}") from None
    assert target is not None, "only rated records come here"
    return target.double().numpy() * len(record.ratings(name))


def _row(name: str, items: RatedItems, bins: np.ndarray) -> dict[str, Any]:
    pairs = pair_counts(items.pred, items.target, items.group)
    wide = pair_counts(items.pred, items.target, items.group, MARGIN)
    scored, undefined = not np.isnan(items.counts).any(), float("nan")  # comparisons have no human scale
    # As ScoreDistribution.log_probs: a probability that underflowed counts as the smallest normal number.
    probs = np.maximum(items.probs, np.finfo(np.float32).tiny)
    return {
        "dimension": name,
        "plcc": plcc(items.pred, items.target),
        "srcc": srcc(items.pred, items.target),
        "hpa": _share(pairs.correct, pairs.pairs),
        "margin_hpa": _share(wide.correct, wide.pairs),
        "tie_rate": _share(pairs.tied, pairs.pairs),
        "nll": nll(probs, items.counts) if scored else undefined,
        "crps": crps(items.probs, items.counts, bins) if scored else undefined,
        "ece": expected_calibration_error(items.pred, items.target) if scored else undefined,
        "output_tokens": float(items.output_tokens.mean()),
        "truncated": float(items.truncated.mean()),
        "n_items": len(items.pred),
        "n_pairs": pairs.pairs,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _check_records(model: RewardModel, records: Sequence[Record], dimensions: Sequence[str] | None) -> None:
    """InputError for ratings that the model's rubric has no dimension for, or that are off its scale.

    Naming `dimensions` narrows the check to them: evaluating a part on purpose is fine.
    """
    rubric = model.rubric
    rated = dict.fromkeys(name for record in records for name in record.scores)
    unknown = [name for name in rated if name not in rubric.dimension_names]
    if unknown and dimensions is None:
        raise InputError(
            f"the records rate {', '.join(map(repr, unknown))}, but the model's rubric {rubric.name!r} has "
            f"{', '.join(rubric.dimension_names)}: a checkpoint of another rubric. Use a model trained on these "
            "dimensions, or name the ones to evaluate"
        )
    if model.forms.reference:
        return  # its scale is that of the answer
    for number, record in enumerate(records):
        for name in [name for name in record.scores if name in (dimensions or rubric.dimension_names)]:
            for rating in record.ratings(name):
                rubric.scale.validate(rating, f"record {record.id or number}: score of {name!r}")
