"""Agreement of predicted preferences with people's votes.

N pairs of pictures, a and b. `gap` [N] is the predicted score of a minus that of b, `prob` [N] the predicted probability
that a is better (a tie counts half), `votes` [N, 3] the votes for a, for b and for a tie: counts or weights, not all 0. Arrays,
tensors or lists; plain numbers come back. Empty input, NaN and unequal lengths are a ValueError; what is undefined is NaN, with a
RuntimeWarning.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zreward.distribution import GAP_TOLERANCE
from zreward.evaluation.metrics import Array, as_numpy, as_vectors, group_codes, group_draws


def accuracy(gap: Any, votes: Any) -> float:
    """Share of the pairs with a winner (more votes than the other side, and than ties) whose winner the gap names.

    A predicted tie is wrong. NaN without such pairs.
    """
    gap, votes = _pairs(gap, votes)
    winner = _winner(votes)
    return _mean((_sign(gap) == winner)[winner != 0], "accuracy")


def accuracy_with_ties(gap: Any, votes: Any, threshold: float) -> float:
    """Share of all pairs whose verdict is people's: a, b, or a tie, which a gap of at most `threshold` predicts.

    `tie_threshold` finds the threshold on other pairs than those that are tested.
    """
    gap, votes = _pairs(gap, votes)
    return float((_sign(gap, threshold) == _winner(votes)).mean())


def accuracy_by_group(gap: Any, votes: Any, group: Any) -> float:
    """Share of the pairs of a group (a ranked list) that are not ordered against people, averaged over the groups (HPDv2).

    Pairs that people tie are never wrong; a predicted tie of others is.

    Args:
        gap: predicted gaps [N].
        votes: [N, 3].
        group: N hashable keys.

    Returns:
        A share from 0 to 1: every list counts alike, however long it is.
    """
    gap, votes = _pairs(gap, votes)
    codes, winner = group_codes(group, len(gap)), _winner(votes)
    right = (winner == 0) | (_sign(gap) == winner)
    return float((np.bincount(codes, right) / np.bincount(codes)).mean())


def half_credit_accuracy(prob: Any, votes: Any, threshold: float) -> float:
    """Pick-a-Pic's accuracy: 1 for the verdict of people, 1/2 where only one side says tie, 0 otherwise; the mean over pairs.

    A tie is predicted where the two probabilities, `prob` and 1 - `prob`, differ by at most `threshold`.
    """
    prob, _, _ = _probabilities(prob, votes)
    predicted, winner = _sign(2 * prob - 1, threshold), _winner(as_numpy(votes))
    return float(1 - np.abs(predicted - winner).mean() / 2)


def half_credit_threshold(prob: Any, votes: Any) -> float:
    """Of 0, 0.1, ..., 1 the threshold at which `half_credit_accuracy` is highest, the smallest such one (as Pick-a-Pic does)."""
    found = [half_credit_accuracy(prob, votes, step / 10) for step in range(11)]
    return int(np.argmax(found)) / 10


def tie_threshold(gap: Any, votes: Any) -> float:
    """The gap, in score units, up to which calling a tie makes `accuracy_with_ties` highest; the smallest such one."""
    gap, votes = _pairs(gap, votes)
    winner = _winner(votes)
    return _best_threshold(np.abs(gap), winner == 0, _sign(gap) == winner)


class TieCalibrated(NamedTuple):
    """`accuracy`: share of the pairs with the verdict of people, averaged over groups; `threshold`: the gap that gave it."""

    accuracy: float
    threshold: float


def tie_calibrated_accuracy(pred: Any, target: Any, group: Any) -> TieCalibrated:
    """Pairwise accuracy with tie calibration (Deutsch et al. 2023, acc_eq*), as CMU's GenAI-Bench reports it.

    Over all pairs of items of a group, equal targets count as ties, and a predicted gap of at most the threshold as a
    predicted tie. The threshold is the one, for all groups, at which the mean over groups of the share of right verdicts is
    highest. It is found on the tested items themselves: that is the benchmark's definition, and flatters a little.

    Args:
        pred: predicted scores [N].
        target: people's mean scores [N].
        group: N hashable keys (prompts); groups of one item have no pair and do not count.

    Raises:
        ValueError: also without any pair.
    """
    x, y = as_vectors(pred=pred, target=target)
    codes = group_codes(group, len(x))
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0, True])
    gaps, tied, right, weights = [], [], [], []
    for start, end in itertools.pairwise(bounds):
        i, j = np.triu_indices(int(end - start), 1)
        if not len(i):
            continue
        items = order[start:end]
        gap, truth = x[items[i]] - x[items[j]], _sign(y[items[i]] - y[items[j]])
        gaps.append(np.abs(gap))
        tied.append(truth == 0)
        right.append((_sign(gap) == truth) & (truth != 0))
        weights.append(np.full(len(i), 1 / len(i)))
    if not gaps:
        raise ValueError(f"{len(x)} items in as many groups: there is no pair to compare")
    gap, tie, hit, weight = map(np.concatenate, (gaps, tied, right, weights))
    threshold = _best_threshold(gap, tie, hit, weight)
    found = np.where(gap <= threshold + GAP_TOLERANCE, tie, hit)
    return TieCalibrated(float((found * weight).sum() / len(gaps)), threshold)


def vote_agreement(gap: Any, votes: Any, threshold: float = 0.0) -> float:
    """Mean over all votes of agreement with the predicted verdict: how often a randomly chosen vote says the same."""
    gap, votes = _pairs(gap, votes)
    side = 1 - _sign(gap, threshold)  # column of the verdict: 0 a, 1 tie, 2 b
    by_side = votes[:, [0, 2, 1]]
    return float(by_side[np.arange(len(votes)), side].sum() / votes.sum())


def preference_nll(prob: Any, votes: Any) -> float:
    """Negative log-likelihood per vote, in nats; a tie is half a vote for each side. Infinite where a vote had probability 0."""
    prob, share, total = _probabilities(prob, votes)
    with np.errstate(divide="ignore"):
        losses = [-np.multiply(part, np.log(p), where=part > 0, out=np.zeros_like(p)) for part, p in
                  ((share, prob), (1 - share, 1 - prob))]  # fmt: skip
    return float(((losses[0] + losses[1]) * total).sum() / total.sum())


def preference_brier(prob: Any, votes: Any) -> float:
    """Mean over pairs of (probability - share of the votes)^2, in [0, 1]."""
    prob, share, _ = _probabilities(prob, votes)
    return float(((prob - share) ** 2).mean())


def preference_ece(prob: Any, votes: Any, n_bins: int = 10) -> float:
    """Calibration: sum_b (n_b / N) |mean probability_b - mean share of the votes_b| over equal bins of [0, 1].

    Which picture is called a must not matter, so every pair is counted both ways round.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}, expected 1 or more")
    prob, share, _ = _probabilities(prob, votes)
    both, shares = np.r_[prob, 1 - prob], np.r_[share, 1 - share]
    index = np.minimum((both * n_bins).astype(int), n_bins - 1)
    return float(np.abs(np.bincount(index, both - shares, minlength=n_bins)).sum() / len(both))


def human_ceiling(raters: Sequence[Mapping[str, str]]) -> float:
    """How often one rater agrees with the majority of the others: a ceiling of `vote_agreement` among single people.

    Args:
        raters: for every pair {rater: "a", "b" or "tie"}.

    Returns:
        The mean over all single votes for a or b on pairs where the others have a majority for a or for b; NaN, with a
        RuntimeWarning, where there is none.
    """
    agreed = []
    for votes in raters:
        chosen = list(votes.values())
        for rater, vote in enumerate(chosen):
            others = chosen[:rater] + chosen[rater + 1 :]
            lead = others.count("a") - others.count("b")
            if vote != "tie" and lead:
                agreed.append((vote == "a") == (lead > 0))
    return _mean(np.array(agreed, dtype=bool), "human_ceiling")


def paired_bootstrap(
    first: Any, second: Any, group: Any, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The difference of two models' mean over the same items, and its interval over groups (prompts).

    Args:
        first: a figure of every item [N] under the first model, such as 1 where its verdict is right.
        second: the same under the second model.
        group: N hashable keys; whole groups are drawn, with replacement.
        confidence: of the interval, between 0 and 1.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Mean of first minus mean of second, lower and upper end (percentiles).
    """
    x, y = as_vectors(first=first, second=second)
    codes = group_codes(group, len(x))
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence!r}, resamples {resamples!r}: expected a share in (0, 1), and 1 or more"
        )
    sums, sizes = np.bincount(codes, x - y), np.bincount(codes)
    drawn = group_draws(len(sizes), resamples, seed)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float((x - y).mean()), float(low), float(high)


def _pairs(gap: Any, votes: Any) -> tuple[Array, Array]:
    (gaps,) = as_vectors(gap=gap)
    return gaps, _votes(votes, len(gaps))


def _probabilities(prob: Any, votes: Any) -> tuple[Array, Array, Array]:
    """Probabilities, shares of the votes for a, and numbers of votes."""
    (probs,) = as_vectors(prob=prob)
    if probs.min() < 0 or probs.max() > 1:
        raise ValueError(f"prob is from {probs.min():g} to {probs.max():g}, expected probabilities in [0, 1]")
    counts = _votes(votes, len(probs))
    total = counts.sum(1)
    return probs, (counts[:, 0] + counts[:, 2] / 2) / total, total


def _votes(votes: Any, n: int) -> Array:
    counts = as_numpy(votes)
    if counts.shape != (n, 3):
        raise ValueError(f"votes has shape {list(counts.shape)}, expected [{n}, 3]: for a, for b and for a tie")
    if not np.isfinite(counts).all() or counts.min() < 0 or (counts.sum(1) == 0).any():
        raise ValueError("votes must be finite, not negative, and of every pair not all 0")
    return counts


def _sign(gap: Array, threshold: float = 0.0) -> NDArray[np.intp]:
    return np.where(np.abs(gap) <= threshold + GAP_TOLERANCE, 0, np.sign(gap)).astype(np.intp)


def _winner(votes: Array) -> NDArray[np.intp]:
    """1 where a has most votes, -1 where b has, 0 for a tie: as many for both, or more for a tie than for either."""
    a, b, tie = votes.T
    return np.where(tie > np.maximum(a, b), 0, np.sign(a - b)).astype(np.intp)


def _best_threshold(
    gap: Array, tied: NDArray[np.bool_], right: NDArray[np.bool_], weight: Array | None = None
) -> float:
    """The smallest gap of those there are, or 0, at which most verdicts are right if no larger gap counts as a tie."""
    order = np.argsort(gap, kind="stable")
    worth = np.ones(len(gap)) if weight is None else weight
    gained = (np.where(tied, 1.0, 0.0) - np.where(right & ~tied, 1.0, 0.0)) * worth
    candidates = np.r_[0.0, gap[order]]
    totals = np.r_[0.0, np.cumsum(gained[order])]
    # Equal gaps become ties together: of those only the last total can be reached. Gaps of nought are ties in any case.
    reachable = np.r_[np.diff(candidates) > GAP_TOLERANCE, True]
    totals, candidates = totals[reachable], candidates[reachable]
    return float(candidates[int(np.argmax(totals > totals.max() - 1e-9))])


def _mean(hits: NDArray[np.bool_], name: str) -> float:
    if not len(hits):
        warnings.warn(f"{name}: no pair with a winner (NaN)", RuntimeWarning, stacklevel=3)
        return float("nan")
    return float(hits.mean())
