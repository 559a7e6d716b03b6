"""Same-prompt pairs: the training instances of GDSO and the unit of preference accuracy."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from zreward.data.record import Record
from zreward.errors import InputError

TIE = 1e-6  # scores this close are equal


@dataclass(frozen=True)
class Pair:
    """Two records (indices) of one group, rated on one dimension; `gap` is the winner's score minus the loser's, >= 0."""

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
    """All pairs within a group and dimension, in the records' order; equal scores only with `include_ties` (gap 0).

    `max_per_group` draws that many at random from every (group, dimension) that has more.
    """
    if max_per_group is not None and max_per_group < 1:
        raise InputError(f"max_per_group is {max_per_group}; expected at least 1, or none for all pairs")
    names = list(dimensions) if dimensions is not None else sorted({name for r in records for name in r.scores})
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[record.group_key].append(index)
    rng, pairs = random.Random(seed), []
    for members in groups.values():
        for name in names:
            found = []
            for a, b in itertools.combinations(members, 2):
                score_a, score_b = records[a].score(name), records[b].score(name)
                if score_a is None or score_b is None:
                    continue
                gap = score_a - score_b
                if abs(gap) <= TIE:
                    if include_ties:
                        found.append(Pair(a, b, name, 0.0))
                else:
                    found.append(Pair(a, b, name, gap) if gap > 0 else Pair(b, a, name, -gap))
            if max_per_group is not None and len(found) > max_per_group:
                found = rng.sample(found, max_per_group)
            pairs += found
    return pairs
