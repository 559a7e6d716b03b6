"""Direct training's items from annotations alone (SFT, the pairwise RewardDance). Records are made when an item is asked for.

Axes: M items, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import tensor

from zreward.data import Pair, Record
from zreward.distribution import ScoreScale
from zreward.models.reward_model import RewardModel
from zreward.training.direct import DirectItem, DirectItems
from zreward.training.lazy_items import Spool


def annotated_items(
    records: Sequence[Record], dimensions: Sequence[str], model: RewardModel, smoothing: float
) -> AnnotatedItems:
    """SFT's items: the raters' histogram of every rated (record, dimension)."""
    return AnnotatedItems(records, dimensions, model.rubric.scale, smoothing)


class AnnotatedItems(DirectItems):
    """`annotated_items`."""

    def __init__(
        self, records: Sequence[Record], dimensions: Sequence[str], scale: ScoreScale, smoothing: float
    ) -> None:
        self._records, self._names, self._scale, self._smoothing = records, tuple(dimensions), scale, smoothing
        rows, names = Spool(np.int32), Spool(np.int16)
        for row, record in enumerate(records):
            rated = [number for number, name in enumerate(self._names) if record.ratings(name)]
            rows.add(np.full(len(rated), row))
            names.add(np.array(rated))
        self.rows_M, self.dimensions_M = rows.whole(), names.whole()

    def __len__(self) -> int:
        return len(self.rows_M)

    def make(self, index: int) -> DirectItem:
        record, name = self._records[int(self.rows_M[index])], self._names[self.dimensions_M[index]]
        target = record.target(name, self._scale, self._smoothing)
        assert target is not None, "only rated ones are items"
        return DirectItem(record, name, target)

    def pictures(self) -> np.ndarray:
        return self.rows_M


def compared_items(records: Sequence[Record], pairs: Sequence[Pair]) -> ComparedItems:
    """The pairwise RewardDance's items: every pair in both orders; equal scores are half a yes."""
    return ComparedItems(records, pairs)


class ComparedItems(DirectItems):
    """`compared_items`."""

    def __init__(self, records: Sequence[Record], pairs: Sequence[Pair]) -> None:
        self._records, self._pairs = records, pairs

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def make(self, index: int) -> DirectItem:
        pair, second = self._pairs[index // 2], index % 2 == 1
        winner, loser, yes = self._records[pair.winner], self._records[pair.loser], 1.0 if pair.gap > 0 else 0.5
        if second:
            return DirectItem(loser, pair.dimension, tensor([yes, 1 - yes]), reference=winner)
        return DirectItem(winner, pair.dimension, tensor([1 - yes, yes]), reference=loser)

    def pictures(self) -> np.ndarray:
        sides_P2 = np.array([(pair.winner, pair.loser) for pair in self._pairs], np.int64).reshape(-1, 2)
        sides_M2 = np.stack([sides_P2, sides_P2[:, ::-1]], 1).reshape(-1, 2)
        return sides_M2[:, 0] * len(self._records) + sides_M2[:, 1]
