"""What roll-outs start from: same-prompt pairs with annotated scores or votes, or single unrated images; and their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Sampler

from zreward.data import Pair, Record
from zreward.data.preference import records_of
from zreward.distribution import ScoreScale
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row, rows_of
from zreward.prompting import Texts
from zreward.training.lazy_items import LazyItems
from zreward.training.preferred import PreferredItem


@dataclass(frozen=True)
class RolloutItem:
    """One dimension of a same-prompt pair, winner first, with annotated scores and targets; of a pair with votes, a first; or
    of one unrated image.
    """

    records: tuple[Record, ...]  # the J sides: two of a pair, one otherwise
    dimension: str
    scores: tuple[float, ...] = ()  # one per side; empty when unrated
    shares: tuple[float, ...] = ()  # of the votes, those for each side; then scores and targets are zeros, never used
    targets: Tensor | None = None  # (J, S)
    number: int = 0  # its place among all items


def pair_items(records: Sequence[Record], pairs: Sequence[Pair], model: RewardModel, smoothing: float) -> PairItems:
    """Mined pairs (indices) as training instances."""
    return PairItems(records, pairs, model.rubric.scale, smoothing)


class PairItems(LazyItems[RolloutItem]):
    """`pair_items`."""

    def __init__(self, records: Sequence[Record], pairs: Sequence[Pair], scale: ScoreScale, smoothing: float) -> None:
        self._records, self._pairs, self._scale, self._smoothing = records, pairs, scale, smoothing

    def __len__(self) -> int:
        return len(self._pairs)

    def make(self, index: int) -> RolloutItem:
        pair = self._pairs[index]
        sides = (self._records[pair.winner], self._records[pair.loser])
        winner, loser = (side.score(pair.dimension) for side in sides)
        targets = [side.target(pair.dimension, self._scale, self._smoothing) for side in sides]
        assert winner is not None and loser is not None, "pairs are mined among rated records"
        rated = torch.stack([target for target in targets if target is not None])
        return RolloutItem(sides, pair.dimension, (winner, loser), targets=rated, number=index)


class MixedItems(LazyItems[RolloutItem]):
    """Pairs with scores, then pairs with votes, each of these one dimension."""

    def __init__(self, rated: Sequence[RolloutItem], preferred: Sequence[PreferredItem], scale: ScoreScale) -> None:
        self._rated, self._preferred, self._bins = rated, preferred, len(scale)

    def __len__(self) -> int:
        return len(self._rated) + len(self._preferred)

    def make(self, index: int) -> RolloutItem:
        if index < len(self._rated):
            return self._rated[index]
        preference, ((dimension, share),) = self._preferred[index - len(self._rated)]
        a, b = records_of([preference])
        return RolloutItem((a, b), dimension, (0.0, 0.0), (share, 1 - share), torch.zeros(2, self._bins), index)


def unrated_items(records: Sequence[Record], dimensions: Sequence[str]) -> UnratedItems:
    """Every dimension of every record, on its own."""
    return UnratedItems(records, dimensions)


class UnratedItems(LazyItems[RolloutItem]):
    """`unrated_items`."""

    def __init__(self, records: Sequence[Record], dimensions: Sequence[str]) -> None:
        self._records, self._names = records, tuple(dimensions)

    def __len__(self) -> int:
        return len(self._records) * len(self._names)

    def make(self, index: int) -> RolloutItem:
        row, number = divmod(index, len(self._names))
        return RolloutItem((self._records[row],), self._names[number], number=index)


def rows_of_sides(sides: Sequence[tuple[Record, str]], times: int = 1) -> list[Row]:
    """The rows of records, each asked about one dimension and `times` in a row; pictures are counted through."""
    found = rows_of([r.pictures for r, _ in sides], [Texts(r.prompt, r.answer) for r, _ in sides], ("",), times)
    return [replace(row, dimension=sides[row.item][1]) for row in found]


class RepeatSampler(Sampler):
    """Shuffled indices in blocks (one optimizer step's pairs); every block comes `repeats` times in a row."""

    def __init__(self, size: int, block: int, repeats: int, seed: int) -> None:
        self.size, self.block, self.repeats, self.seed, self.epoch = size, min(block, size), repeats, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        for start in range(0, self.size - self.block + 1, self.block):
            for _ in range(self.repeats):
                yield from order[start : start + self.block]

    def __len__(self) -> int:
        return self.size // self.block * self.block * self.repeats
