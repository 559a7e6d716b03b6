"""Help for pretraining's direct rows: at the score position, name every defect of the dimension, without words.

A real backbone knows much that it does not say. At this size a direct answer learns to look only as far as one number per
picture tells it to, which for alignment (which object has which colour, and where) is not far. The heads are thrown away
afterwards, as those of `sight` are: what stays is a state from which the defects can be read, and an uncalibrated opinion.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn, stack, tensor

from zreward.world.scenes import SEVERITY, Scene

MOST = 2  # a defect is counted as 0, 1, or this many and more


class ImpressionHeads(nn.Module):
    """A linear classifier per dimension, from the state at the score position to the count of each of its defects."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, len(kinds) * (MOST + 1)) for name, kinds in SEVERITY.items()}
        )

    def loss(self, states_NH: Tensor, scenes: list[Scene], dimensions: list[str]) -> Tensor:
        """Mean cross-entropy of the counts over rows and kinds of defects; zero without rows."""
        losses = [states_NH.sum() * 0]
        for name, head in self.heads.items():
            rows = [n for n, dimension in enumerate(dimensions) if dimension == name]
            if rows:
                counts = stack([_counts(scenes[n], name) for n in rows])
                logits = head(states_NH[rows]).view(-1, MOST + 1)
                losses.append(F.cross_entropy(logits, counts.flatten()) * len(rows) / len(dimensions))
        return stack(losses).sum()


def _counts(scene: Scene, dimension: str) -> Tensor:
    """(kinds,): how often each defect of the dimension occurs, at most `MOST`."""
    found = scene.defects(dimension)
    return tensor([min(MOST, found.count(kind)) for kind in SEVERITY[dimension]])
