"""Same-prompt pairs: the training instances of GDSO and the unit of preference accuracy."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zreward.common.errors import InputError
from zreward.data.record import Record
from zreward.distribution import GAP_TOLERANCE


@dataclass(frozen=True)
class Pair:
    """Two records (indices) of one group, rated on one dimension; `gap` >= 0 is winner's minus loser's score."""

    winner: int
    loser: int
    dimension: str
    gap: float


def mine_pairs(
    records: Sequence[Record],
    dimensions: Sequence[str] | None = None,
    include_ties: bool = False,
    max_per_group: int | None = None,
    seed: int = 0,
) -> list[Pair]:
    """All pairs within a group (`Record.group_key`) and dimension, group by group in the records' order.

    Args:
        records: rated records.
        dimensions: names; default all that are rated.
        include_ties: also pair equal scores (within 1e-6): gap 0, the earlier record is the winner.
        max_per_group: draw at most this many from every (group, dimension); default all.
        seed: of that draw, which does not depend on other groups.

    Returns:
        Pairs of indices into `records`.

    Raises:
        InputError: a dimension that no record rates, a `max_per_group` below 1.
    """
    return list(each_pair(records, dimensions, include_ties, max_per_group, seed))


def each_pair(
    records: Sequence[Record],
    dimensions: Sequence[str] | None = None,
    include_ties: bool = False,
    max_per_group: int | None = None,
    seed: int = 0,
) -> Iterator[Pair]:
    """`mine_pairs`, one after the other. Every record is read once, and none is held."""
    if max_per_group is not None and max_per_group < 1:
        raise InputError(f"max_per_group is {max_per_group}; expected at least 1, or none for all pairs")
    if isinstance(dimensions, str):
        raise InputError(f"dimensions is {dimensions!r}; expected a list of names")
    groups: dict[str, array[int]] = defaultdict(lambda: array("q"))
    scores: dict[str, np.ndarray] = {}
    for index, record in enumerate(records):
        groups[record.group_key].append(index)
        for name in record.scores:
            score = record.score(name)
            if score is not None:
                scores.setdefault(name, np.full(len(records), np.nan))[index] = score
    names = sorted(scores) if dimensions is None else list(dimensions)
    unrated = [name for name in names if name not in scores]
    if unrated and records:
        raise InputError(f"no record rates {unrated}; the dimensions that are rated are {sorted(scores)}")
    for key, members in groups.items():
        for name in names:
            found = _pairs(scores[name], members, name, include_ties)
            if max_per_group is not None and len(found) > max_per_group:
                drawn = random.Random(f"{seed}\0{name}\0{key}").sample(range(len(found)), max_per_group)
                found = [found[position] for position in sorted(drawn)]
            yield from found


def _pairs(scores: np.ndarray, members: Iterable[int], name: str, include_ties: bool) -> list[Pair]:
    """Of one group. `scores`: of every record, NaN where it is not rated."""
    scored = [(index, score) for index in members if not math.isnan(score := float(scores[index]))]
    found = []
    for (a, score_a), (b, score_b) in itertools.combinations(scored, 2):
        gap = score_a - score_b
        if abs(gap) > GAP_TOLERANCE:
            found.append(Pair(a, b, name, gap) if gap > 0 else Pair(b, a, name, -gap))
        elif include_ties:
            found.append(Pair(a, b, name, 0.0))
    return found
