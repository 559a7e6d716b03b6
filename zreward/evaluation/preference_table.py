"""How well a model agrees with people's votes: a row of metrics per dimension, with intervals over prompts.

Shapes: N pairs with votes on a dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from zreward.data.preference import Preference
from zreward.evaluation import preferences as metrics
from zreward.evaluation.intervals import bootstrap
from zreward.evaluation.metrics import Array
from zreward.evaluation.preference_prediction import PreferencePredictions
from zreward.evaluation.tables import POOLED, Column

COLUMNS = (
    Column("accuracy", "accuracy", 3, 1),
    Column("accuracy_with_ties", "with ties", 3, 1),
    Column("tie_threshold", "tie up to", 3, 0),
    Column("vote_agreement", "votes", 3, 1),
    Column("human_ceiling", "one person", 3, 0),
    Column("preference_nll", "NLL", 3, -1),
    Column("preference_brier", "Brier", 3, -1),
    Column("preference_ece", "ECE", 3, -1),
    Column("output_tokens", "tokens", 1, 0),
    Column("truncated", "cut off", 3, 0),
    Column("n_pairs", "pairs", 0, 0),
    Column("n_prompts", "prompts", 0, 0),
)
OPTIONAL = ("n_prompts", "truncated", "output_tokens", "tie_threshold", "preference_brier", "human_ceiling")
"""What a narrow terminal hides, the first one first."""


@dataclass(frozen=True, eq=False)
class VotedPairs:
    """What a model and people say about the pairs with votes on one dimension, or on several one after the other."""

    gap: Array  # [N]
    prob: Array  # [N]
    votes: Array  # [N, 3]: for a, for b, for a tie
    group: list[str]  # [N] prompts
    raters: list[dict[str, str]]  # [N] {rater: vote}, empty where raters are not named
    output_tokens: Array  # [N]
    truncated: Array  # [N]

    @classmethod
    def cat(cls, parts: Sequence[VotedPairs]) -> VotedPairs:
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            joined[field.name] = [*chain(*values)] if isinstance(values[0], list) else np.concatenate(values)
        return cls(**joined)


def voted_pairs(
    predictions: PreferencePredictions, preferences: Sequence[Preference], answers: Mapping[str, Sequence[str]]
) -> dict[str, VotedPairs]:
    """The pairs behind every row: of each dimension of the votes, and of all of them together ("all").

    Args:
        predictions: of these preferences.
        preferences: with votes.
        answers: for every dimension of the votes, the model's dimensions whose mean answers (`answering`).

    Returns:
        By dimension; those without votes are left out, "all" is last.

    Raises:
        ValueError: predictions of other preferences; no votes at all.
    """
    if len(predictions) != len(preferences):
        raise ValueError(f"{len(predictions)} predictions for {len(preferences)} preferences; expected one for each")
    found = {}
    for name, own in answers.items():
        counts = [one.counts(name) for one in preferences]
        rows = [n for n, votes in enumerate(counts) if votes is not None]
        if not rows:
            continue
        gap, prob = predictions.answer(own)
        columns = predictions.columns(own)
        found[name] = VotedPairs(
            gap[rows],
            prob[rows],
            np.array([[votes.a, votes.b, votes.tie] for votes in counts if votes is not None]),
            [preferences[n].group_key for n in rows],
            [preferences[n].raters(name) for n in rows],
            predictions.output_tokens[rows][:, columns].sum(1).double().numpy(),
            predictions.truncated[rows][:, columns].mean(1).double().numpy(),
        )
    return found | {POOLED: VotedPairs.cat(list(found.values()))}


def tie_thresholds(pairs: Mapping[str, VotedPairs]) -> dict[str, float]:
    """Of every row the gap up to which calling a tie is right most often; to be found on other pairs than those tested."""
    return {name: metrics.tie_threshold(part.gap, part.votes) for name, part in pairs.items()}


def preference_rows(
    pairs: Mapping[str, VotedPairs],
    thresholds: Mapping[str, float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row of metrics per dimension, then "all".

    Args:
        pairs: `voted_pairs`.
        thresholds: by row, the largest gap that counts as a predicted tie; where there is none, accuracy with ties is NaN.
        resamples: draws of prompts behind each interval (95 %); 0: no intervals.
        seed: of these draws.

    Returns:
        Rows with accuracy (of the pairs with a winner), accuracy_with_ties, tie_threshold, vote_agreement, human_ceiling,
        preference_nll, preference_brier, preference_ece, output_tokens (for one picture), truncated, n_pairs, n_prompts.
        Each metric of the model has the ends of its interval, such as accuracy_low and accuracy_high. What is undefined is NaN.
    """
    return [_row(name, part, (thresholds or {}).get(name), resamples, seed) for name, part in pairs.items()]


def captions(answers: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, str]]:
    """What stands below a printed table: always, and with single columns."""
    means = [f"{name!r} is answered by the mean of {', '.join(own)}." for name, own in answers.items() if len(own) > 1]
    text = (
        "Accuracy: share of the pairs with a winner whose winner the model names. With an interval over prompts (95 %)."
    )
    return " ".join([text, *means]), {
        "accuracy_with_ties": "With ties: of all pairs, where a gap of at most 'tie up to' score points is a tie.",
        "vote_agreement": "Votes: agreement with a single vote.",
        "human_ceiling": "One person: agreement of one rater with the majority of the others.",
        "preference_nll": "NLL (nats), Brier and ECE: of the probability that a is better.",
    }


def _row(name: str, pairs: VotedPairs, threshold: float | None, resamples: int, seed: int) -> dict[str, Any]:
    undefined = float("nan")
    known: dict[str, tuple[Callable[..., float], Array]] = {
        "accuracy": (metrics.accuracy, pairs.gap),
        "vote_agreement": (metrics.vote_agreement, pairs.gap),
        "preference_nll": (metrics.preference_nll, pairs.prob),
        "preference_brier": (metrics.preference_brier, pairs.prob),
        "preference_ece": (metrics.preference_ece, pairs.prob),
    }
    if threshold is not None:
        known["accuracy_with_ties"] = (partial(metrics.accuracy_with_ties, threshold=threshold), pairs.gap)
    row: dict[str, Any] = {"dimension": name}
    for column in COLUMNS:
        row[column.key] = undefined
        if column.key in known:
            row |= _with_interval(column.key, *known[column.key], pairs, resamples, seed)
    told_apart = [votes for votes in pairs.raters if len(votes) > 1]
    return row | {
        "tie_threshold": undefined if threshold is None else threshold,
        "human_ceiling": metrics.human_ceiling(told_apart) if told_apart else undefined,
        "output_tokens": float(pairs.output_tokens.mean()),
        "truncated": float(pairs.truncated.mean()),
        "n_pairs": len(pairs.gap),
        "n_prompts": len(set(pairs.group)),
    }


def _with_interval(
    key: str, metric: Callable[..., float], said: Array, pairs: VotedPairs, resamples: int, seed: int
) -> dict[str, float]:
    if not resamples:
        return {key: metric(said, pairs.votes)}
    found = bootstrap(lambda drawn, _: metric(said[drawn], pairs.votes[drawn]), pairs.group, resamples, seed=seed)
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
