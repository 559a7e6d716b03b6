"""Agreement of predicted scores with people: correlation, preference accuracy, calibration, blind-comparison verdicts.

Pure functions of 1-D arrays, tensors or lists (distributions: [N, S]); plain numbers come back. Empty input, NaN and
unequal lengths are a ValueError. What is undefined (correlation with a constant, accuracy over no pairs) is NaN, with a
RuntimeWarning. Score gaps are compared with a tolerance of 1e-6, so that a gap of exactly 0.5 is not above 0.5.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from zreward.distribution import GAP_TOLERANCE

_CONSTANT = 1e-12  # relative spread below which a sample counts as constant

Array = NDArray[np.float64]


def plcc(pred: Any, target: Any) -> float:
    """Pearson's linear correlation of two samples of length N."""
    x, y = as_vectors(pred=pred, target=target)
    return _correlation(x, y, "plcc")


def srcc(pred: Any, target: Any) -> float:
    """Spearman's rank correlation of two samples of length N; tied values share their mean rank."""
    x, y = as_vectors(pred=pred, target=target)
    return _correlation(x, y, "srcc", rank=True)


def krcc(pred: Any, target: Any) -> float:
    """Kendall's rank correlation (tau-b) of two samples of length N: pairs that either side ties are corrected for."""
    x, y = as_vectors(pred=pred, target=target)
    if math.isnan(_correlation(x, y, "krcc")):  # a constant, which is said
        return float("nan")
    return float(kendalltau(x, y).statistic)


class PairCounts(NamedTuple):
    """Counts over the compared pairs: ordered as people do, tied by the prediction, and all."""

    correct: int
    tied: int
    pairs: int


def pair_counts(pred: Any, target: Any, group: Any, margin: float = 0.0) -> PairCounts:
    """Counts behind `hpa` and `tie_rate`; add them up to pool several tests.

    Args:
        pred: predicted scores [N].
        target: people's scores [N].
        group: N hashable keys (prompts, or (prompt, dimension) tuples); only pairs inside one group are compared.
        margin: only pairs with a larger gap between targets, in score units.

    Returns:
        Pairs ordered as people do, pairs tied by the prediction, all compared pairs.

    Raises:
        ValueError: unequal lengths, NaN, no items.
    """
    x, y = as_vectors(pred=pred, target=target)
    codes = group_codes(group, len(x))
    if not np.isfinite(margin) or margin < 0:
        raise ValueError(f"margin is {margin!r}, expected a finite gap of 0 or more in score units")
    correct = tied = pairs = 0
    for i, j in _same_group_pairs(codes):
        gap = y[i] - y[j]
        compared = np.abs(gap) > margin + GAP_TOLERANCE
        difference = (x[i] - x[j])[compared]
        ties = np.abs(difference) <= GAP_TOLERANCE
        pairs += difference.size
        tied += int(ties.sum())
        correct += int(((difference > 0) == (gap[compared] > 0))[~ties].sum())
    return PairCounts(correct, tied, pairs)


def hpa(pred: Any, target: Any, group: Any, margin: float = 0.0) -> float:
    """Human preference accuracy: share of same-group pairs with different targets that `pred` orders the same way.

    Strict: a predicted tie is wrong. The arguments are those of `pair_counts`; a `margin` of 0.5 gives margin HPA.

    Args:
        pred: predicted scores [N].
        target: people's scores [N].
        group: N hashable keys.
        margin: only pairs with a larger gap between targets, in score units.

    Returns:
        A share from 0 to 1; NaN, with a RuntimeWarning, without such pairs.
    """
    counts = pair_counts(pred, target, group, margin)
    return _share(counts.correct, counts.pairs, "hpa")


def tie_rate(pred: Any, target: Any, group: Any) -> float:
    """Share of the pairs compared by `hpa` that the prediction ties.

    Args:
        pred: predicted scores [N].
        target: people's scores [N].
        group: N hashable keys.
    """
    counts = pair_counts(pred, target, group)
    return _share(counts.tied, counts.pairs, "tie_rate")


def gsb(good: Any, same: Any, bad: Any) -> float:
    """(G - B) / (G + S + B), from -1 to 1.

    Args:
        good: count of pairs judged better, or an array of counts, which are summed. So are the other two.
        same: count of ties.
        bad: count of pairs judged worse.

    Raises:
        ValueError: negative counts, or all 0.
    """
    g, s, b = as_vectors(
        good=np.atleast_1d(as_numpy(good)), same=np.atleast_1d(as_numpy(same)), bad=np.atleast_1d(as_numpy(bad))
    )
    total = g.sum() + s.sum() + b.sum()
    if min(g.min(), s.min(), b.min()) < 0 or total == 0:
        raise ValueError(f"gsb: good {good!r}, same {same!r}, bad {bad!r}; expected counts of 0 or more, not all 0")
    return float((g.sum() - b.sum()) / total)


def gsb_interval(
    outcomes: Sequence[str],
    groups: Sequence[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `gsb`.

    Args:
        outcomes: verdicts: "good", "same" or "bad".
        groups: one key per verdict (its prompt): whole groups are resampled, since pictures of one prompt are not
            independent. Default: single verdicts are resampled.
        confidence: between 0 and 1.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: no or unknown verdicts, another number of groups, a confidence that is not between 0 and 1.
    """
    names = ("good", "same", "bad")
    outcomes = list(outcomes)
    if set(outcomes) - set(names) or not outcomes:
        found = sorted(map(str, set(outcomes)))
        raise ValueError(f"gsb_interval: outcomes {found}, expected some of {names}, at least one")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"gsb_interval: confidence {confidence}, resamples {resamples}; expected 0..1 and 1 or more")
    keys = list(range(len(outcomes)) if groups is None else groups)
    if len(keys) != len(outcomes):
        raise ValueError(f"gsb_interval: {len(outcomes)} outcomes but {len(keys)} groups; expected one for each")
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    counts_GO = np.zeros((len(number), 3))
    for key, outcome in zip(keys, outcomes, strict=True):
        counts_GO[number[key], names.index(outcome)] += 1
    taken_RG = group_draws(len(number), resamples, seed)
    good, same, bad = (taken_RG @ counts_GO).T
    low, high = np.quantile((good - bad) / (good + same + bad), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def group_draws(groups: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each of G groups is taken when G of them are drawn with replacement, R times.

    Args:
        groups: G.
        resamples: R.
        seed: of the draws.

    Returns:
        Counts [R, G]; each row adds up to G.
    """
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), resamples)


def nll(probs: Any, counts: Any) -> float:
    """Mean negative log-likelihood of a rating, nats: -sum(counts log probs) / sum(counts).

    The mean is over ratings, so an item with more raters weighs more. Infinite when a rating was given no probability.

    Args:
        probs: predicted probabilities [N, S].
        counts: ratings per bin [N, S]; weights are allowed.
    """
    p, c = distributions(probs, counts)
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    return float(-np.multiply(c, log_p, where=c > 0, out=np.zeros_like(p)).sum() / c.sum())


def crps(probs: Any, counts: Any, bins: Any) -> float:
    """Continuous ranked probability score, score units: mean over items of the mean over that item's ratings y of

    integral (F(x) - 1[y <= x])^2 dx,   F the predicted step function over the bins.

    For a prediction without spread it is the absolute error.

    Args:
        probs: predicted probabilities [N, S].
        counts: ratings per bin [N, S]; weights are allowed.
        bins: scores of the bins [S], rising.
    """
    p, c = distributions(probs, counts)
    (b,) = as_vectors(bins=bins)
    if len(b) != p.shape[1] or (np.diff(b) <= 0).any():
        raise ValueError(f"crps: bins {b.tolist()} for {p.shape[1]} probabilities; expected one rising score for each")
    cdf_NS = p.cumsum(1)[:, :-1]  # F is constant between neighbouring bins
    reached_SS = np.tri(len(b))[:-1].T  # [y, x]: 1 when y <= x
    width = np.diff(b)
    score_NS = np.stack([((cdf_NS - reached) ** 2) @ width for reached in reached_SS], axis=1)
    return float(((c * score_NS).sum(1) / c.sum(1)).mean())


def expected_calibration_error(pred: Any, target: Any, n_bins: int = 10) -> float:
    """Calibration of expected scores, score units: sum_b (n_b / N) |mean pred_b - mean target_b|.

    Args:
        pred: predicted scores [N].
        target: people's scores [N].
        n_bins: bins of equal width from the smallest to the largest prediction; empty ones do not count.
    """
    x, y = as_vectors(pred=pred, target=target)
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}, expected 1 or more")
    spread = np.ptp(x)
    index = (
        np.zeros(len(x), int) if spread == 0 else np.minimum(((x - x.min()) / spread * n_bins).astype(int), n_bins - 1)
    )
    return float(np.abs(np.bincount(index, x - y, minlength=n_bins)).sum() / len(x))


def _correlation(x: Array, y: Array, name: str, rank: bool = False) -> float:
    if any(np.ptp(v) <= _CONSTANT * np.abs(v).max() for v in (x, y)):
        warnings.warn(
            f"{name}: one input is constant, the correlation is undefined (NaN)", RuntimeWarning, stacklevel=3
        )
        return float("nan")
    if rank:
        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1, 1))


def _share(part: int, whole: int, name: str) -> float:
    if whole == 0:
        warnings.warn(f"{name}: no pair inside a group has a large enough gap (NaN)", RuntimeWarning, stacklevel=3)
        return float("nan")
    return part / whole


def _same_group_pairs(codes: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Every unordered pair inside a group once, as index arrays; the work is that of the pairs, not N^2."""
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    end = np.repeat(np.cumsum(sizes), sizes)  # per sorted position: where its group ends
    first = np.arange(len(codes))
    for offset in range(1, int(sizes.max())):
        first = first[first + offset < end[first]]
        yield order[first], order[first + offset]


def group_codes(group: Any, n: int) -> NDArray[np.intp]:
    """(n,) group numbers, 0 for the first key, in the order of appearance. ValueError: not n keys, or one that is no key."""
    keys: Sequence[Hashable] = group.tolist() if isinstance(group, (np.ndarray, torch.Tensor)) else list(group)
    if len(keys) != n:
        raise ValueError(f"group has {len(keys)} keys for {n} scores, expected one for each")
    seen: dict[Hashable, int] = {}
    codes = np.empty(n, np.intp)
    for position, key in enumerate(keys):
        if key is None or (isinstance(key, float) and math.isnan(key)):
            raise ValueError(f"group key {position} is {key!r}, expected a prompt, a number or a tuple")
        try:
            codes[position] = seen.setdefault(key, len(seen))
        except TypeError:
            raise ValueError(f"group key {position} is {key!r}; use a hashable key such as a tuple") from None
    return codes


def as_numpy(x: Any) -> Array:
    """Numbers in a list, array or tensor as float64 on the CPU, in their shape. ValueError for anything else."""
    if isinstance(x, torch.Tensor):
        return x.detach().double().cpu().numpy()
    try:
        return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected numbers in a list, array or tensor of even shape, got {x!r:.200}") from None


def as_vectors(**named: Any) -> list[Array]:
    """1-D float arrays of one length; everything else is a ValueError that names the argument."""
    arrays = {name: as_numpy(x) for name, x in named.items()}
    for name, x in arrays.items():
        if x.ndim != 1 or x.size == 0:
            raise ValueError(f"{name} has shape {list(x.shape)}, expected 1-D and not empty")
        if not np.isfinite(x).all():
            where = int(np.flatnonzero(~np.isfinite(x))[0])
            raise ValueError(
                f"{name}[{where}] is {x[where]}, expected finite numbers; leave such items out and count them"
            )
    if len({len(x) for x in arrays.values()}) > 1:
        raise ValueError(f"unequal lengths: { {name: len(x) for name, x in arrays.items()} }")
    return list(arrays.values())


def distributions(probs: Any, counts: Any) -> tuple[Array, Array]:
    """Predicted probabilities and rater counts, [N, S] both; counts may be weights, no item may be without any."""
    p, c = as_numpy(probs), as_numpy(counts)
    if p.ndim != 2 or p.shape != c.shape or p.size == 0:
        raise ValueError(f"probs {list(p.shape)} and counts {list(c.shape)}: expected [N, S] for both, not empty")
    if not (np.isfinite(p).all() and np.isfinite(c).all()) or min(p.min(), c.min()) < 0:
        raise ValueError("probs and counts must be finite and not negative; leave out items without a prediction")
    if np.abs(p.sum(1) - 1).max() > 1e-3:
        row = int(np.abs(p.sum(1) - 1).argmax())
        raise ValueError(f"probs of item {row} sum to {p[row].sum():g}, expected 1 (softmax over the bins)")
    if (c.sum(1) == 0).any():
        raise ValueError(f"item {int((c.sum(1) == 0).argmax())} has no ratings; leave such items out")
    return p, c
