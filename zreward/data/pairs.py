"""Same-prompt pairs: the training instances of GDSO and the unit of preference accuracy."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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
    if max_per_group is not None and max_per_group < 1:
        raise InputError(f"max_per_group is {max_per_group}; expected at least 1, or none for all pairs")
    if isinstance(dimensions, str):
        raise InputError(f"dimensions is {dimensions!r}; expected a list of names")
    rated = sorted({name for record in records for name in record.scores if record.ratings(name)})
    names = rated if dimensions is None else list(dimensions)
    unrated = [name for name in names if name not in rated]
    if unrated and records:
        raise InputError(f"no record rates {unrated}; the dimensions that are rated are {rated}")
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[record.group_key].append(index)
    pairs = []
    for key, members in groups.items():
        for name in names:
            found = _pairs(records, members, name, include_ties)
            if max_per_group is not None and len(found) > max_per_group:
                drawn = random.Random(f"{seed}\0{name}\0{key}").sample(range(len(found)), max_per_group)
                found = [found[position] for position in sorted(drawn)]
            pairs += found
    return pairs


def _pairs(records: Sequence[Record], members: Sequence[int], name: str, include_ties: bool) -> list[Pair]:
    scored = [(index, score) for index in members if (score := records[index].score(name)) is not None]
    found = []
    for (a, score_a), (b, score_b) in itertools.combinations(scored, 2):
        gap = score_a - score_b
        if abs(gap) > GAP_TOLERANCE:
            found.append(Pair(a, b, name, gap) if gap > 0 else Pair(b, a, name, -gap))
        elif include_ties:
            found.append(Pair(a, b, name, 0.0))
    return found
