"""Learning from preferences: both pictures of a pair pass the model as two rows, and their distributions are compared.

A batch may mix pairs with rated pictures. Every pair and dimension, and every rated picture and dimension, counts alike but for
`data.rated_weight`. Axes: R rows of rated pictures, P pairs (one for each dimension with votes), S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.data import Preference
from zreward.data.preference import OVERALL, Votes
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.objectives import bradley_terry_votes_loss, sft_loss, win_loss
from zreward.training.direct import DirectItem, DirectTrainer
from zreward.training.recipe import Recipe
from zreward.training.trainer_base import WEIGHT


class PreferredItem(NamedTuple):
    """Two pictures of a prompt, and the share of the votes for the first on each dimension."""

    preference: Preference
    shares: tuple[tuple[str, float], ...]


def preferred_items(
    preferences: Sequence[Preference], dimensions: Sequence[str], together: bool = True, smoothing: float = 0.0
) -> list[PreferredItem]:
    """What there is to train on: preferences with votes on any of the dimensions, the dimensions of one together or apart.

    Votes on "overall", where the rubric has no such dimension, are votes on the only one of `dimensions`.

    Args:
        preferences: what people chose.
        dimensions: of the rubric, those that are trained.
        together: one item for all dimensions of a preference, or one for each.
        smoothing: votes added to each side (additive smoothing, 0 or more): of a single vote for a, the share is then
            (1 + smoothing) / (1 + 2 smoothing).

    Raises:
        InputError: nobody voted on any of the dimensions.
    """
    only = dimensions[0] if len(dimensions) == 1 and OVERALL not in dimensions else None
    items = []
    for one in preferences:
        found = {name: _share(votes, smoothing) for name in dimensions if (votes := one.counts(name)) is not None}
        if only is not None and only not in found and (votes := one.counts(OVERALL)) is not None:
            found[only] = _share(votes, smoothing)
        parts = [tuple(found.items())] if together else [(part,) for part in found.items()]
        items += [PreferredItem(one, part) for part in parts if part]
    if not items:
        voted = sorted({name for one in preferences for name in one.votes})
        raise InputError(
            f"no preference has votes on {list(dimensions)}; the votes are on {voted}. Use a rubric with these dimensions, or "
            "name in data.dimensions the one that votes on 'overall' are to train"
        )
    return items


def _share(votes: Votes, smoothing: float) -> float:
    """Of the votes, those for a, with `smoothing` votes more on each side."""
    return (votes.share * votes.total + smoothing) / (votes.total + 2 * smoothing)


class PreferenceTrainer(DirectTrainer):
    """Trains score distributions so that they win as often as people chose, and on ratings where there are some."""

    def __init__(
        self,
        reward_model: RewardModel,
        recipe: Recipe,
        run: RunDirectory,
        pairs: Sequence[PreferredItem],
        rated: Sequence[DirectItem] = (),
        callbacks=(),
    ) -> None:
        super().__init__(reward_model, recipe, run, rated, callbacks)
        assert isinstance(self.train_dataset, Sequence)
        self.train_dataset = [*pairs, *self.train_dataset]

    def collate(self, items: list[Any]) -> dict[str, Any]:
        """Rated groups and pairs -> pictures, R + 2 P rows, target (R, S), share (P,), and sides (P, 2): rows of a and of b."""
        rated = [group for group in items if not isinstance(group, PreferredItem)]
        pairs = [item for item in items if isinstance(item, PreferredItem)]
        batch: dict[str, Any] = {"images": [], "rows": [], "target": []}
        if rated:
            batch = super().collate(rated)
        images, rows, shares, sides = batch["images"], batch["rows"], [], []
        for item in pairs:
            prompt, questions = item.preference.prompt, len(item.shares)
            for image in item.preference.images:  # a picture's questions one after the other: they share its prefix
                rows += [Row((len(images),), prompt, name) for name, _ in item.shares]
                images.append(self._open(image))
            first = len(rows) - 2 * questions
            sides += [(first + n, first + questions + n) for n in range(questions)]
            shares += [share for _, share in item.shares]
        return batch | {"share": torch.tensor(shares), "sides": torch.tensor(sides), "items": items}

    def first_of(self, batch: dict[str, Any], count: int) -> dict[str, Any]:
        return self.collate(batch["items"][:count])

    def count(self, batch: dict[str, Any]) -> int:
        return (len(batch["target"]) + len(batch["share"])) * bool(batch.get(WEIGHT, 1))

    def compute_loss(self, model, inputs, *_, **__):
        images, rows = self._augmented(inputs["images"], inputs["rows"])
        batch = replace(self.reward_model.collate(images, rows), share=self.shares).to(self.args.device)
        logits = model(batch).score_logits
        R, P = len(inputs["target"]), len(inputs["share"])
        parts = []
        if R:
            rated = sft_loss(logits[:R].log_softmax(-1), inputs["target"])
            self.record(rated_loss=rated.detach())
            parts.append(self.recipe.data.rated_weight * rated * R)
        if P:
            a_P, b_P = inputs["sides"].unbind(1)
            preferred = self._compare(logits[a_P], logits[b_P], inputs["share"]).mean()
            self.record(preference_loss=preferred.detach())
            parts.append(preferred * P)
        loss = torch.stack(parts).sum() / (R + P)
        self.refuse_nan(loss)
        return loss * (self.count(inputs) / self._mean_rows)

    def _compare(self, logits_a_PS: Tensor, logits_b_PS: Tensor, share_P: Tensor) -> Tensor:
        if self.recipe.data.preference_loss == "win_rate":
            return win_loss(logits_a_PS.log_softmax(-1), logits_b_PS.log_softmax(-1), share_P)
        bins = self.reward_model.rubric.scale.bins.to(logits_a_PS)
        mu_a, mu_b = logits_a_PS.softmax(-1) @ bins, logits_b_PS.softmax(-1) @ bins
        return bradley_terry_votes_loss(mu_a, mu_b, share_P)
