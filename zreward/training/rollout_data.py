"""What roll-outs start from: same-prompt pairs with annotated scores, or single unrated images; and their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from zreward.data import Pair, Record
from zreward.models.reward_model import RewardModel


@dataclass(frozen=True)
class RolloutItem:
    """One dimension of a same-prompt pair, winner first, with annotated scores and targets; or of one unrated image."""

    records: tuple[Record, ...]  # the J sides: two of a pair, one otherwise
    dimension: str
    scores: tuple[float, ...] = ()  # one per side; empty when unrated
    targets: Tensor | None = None  # (J, S)
    number: int = 0  # its place among all items


def pair_items(
    records: Sequence[Record], pairs: Sequence[Pair], model: RewardModel, smoothing: float
) -> list[RolloutItem]:
    """Mined pairs (indices) as training instances."""
    items: list[RolloutItem] = []
    for pair in pairs:
        sides = (records[pair.winner], records[pair.loser])
        winner, loser = (side.score(pair.dimension) for side in sides)
        targets = [side.target(pair.dimension, model.rubric.scale, smoothing) for side in sides]
        assert winner is not None and loser is not None, "pairs are mined among rated records"
        rated = torch.stack([target for target in targets if target is not None])
        items.append(RolloutItem(sides, pair.dimension, (winner, loser), rated, len(items)))
    return items


def unrated_items(records: Sequence[Record], dimensions: Sequence[str]) -> list[RolloutItem]:
    """Every dimension of every record, on its own."""
    sides = [(record, name) for record in records for name in dimensions]
    return [RolloutItem((record,), name, number=number) for number, (record, name) in enumerate(sides)]


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
