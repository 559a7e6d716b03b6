"""GDSO's coupling term: every sequence of a roll-out again, with an edit of its trace.

Each of the M sequences has a row, also where its trace has no edit, so that all processes of a launch run as many passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zreward.distribution import ScoreScale
from zreward.evaluation.coupling_edits import Editor, choose
from zreward.models.draws import seed_of
from zreward.models.inputs import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.objectives import coupling_terms


@dataclass(frozen=True)
class EditedTraces:
    """M rows with edited traces."""

    inputs: ModelInput
    direction: Tensor  # (M,): of the score, by the edit; 0 where a trace has none

    @classmethod
    def of(
        cls, model: RewardModel, images: Sequence[Tensor], rows: Sequence[Row], editor: Editor, seeds: Sequence[int]
    ) -> EditedTraces:
        """One edit of each row's trace, its kind drawn among those that there are.

        Args:
            model: the policy.
            images: what the rows show.
            rows: M rows with traces.
            editor: what lists a trace's edits.
            seeds: M seeds of the draws.
        """
        edited, direction = [], []
        for row, seed in zip(rows, seeds, strict=True):
            assert row.trace is not None, "roll-outs have traces"
            edits = list(choose(editor(model.trace_text(row.trace), row.prompt, row.dimension), seed).values())
            if edits:
                edit = edits[seed_of(seed, "kind") % len(edits)]
                row = replace(row, trace=model.as_trace(edit.text))
            edited.append(row)
            direction.append(edit.direction if edits else 0)
        inputs = replace(model.collate(images, edited), trace_mask=None)
        return cls(inputs, torch.tensor(direction))

    def loss(
        self, mu_edited: Tensor, mu: Tensor, rows: slice, margin: float, scale: ScoreScale
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean term of some rows, (), and what is logged of them.

        Args:
            mu_edited: of those rows, with gradient.
            mu: of all M sequences, after their own traces.
            rows: which.
            margin: in score points.
            scale: the rubric's scale.
        """
        before, direction = mu[rows], self.direction[rows].to(mu.device)
        loss = coupling_terms(mu_edited, before, direction, margin, scale).mean()
        parts = {"coupling_loss": loss, "coupling_edited": direction.abs().float().mean()}
        if direction.any():
            right = direction * (mu_edited.detach() - before) > 0
            parts["coupling_right"] = right[direction != 0].float().mean()
        return loss, parts
