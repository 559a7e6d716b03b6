"""Evaluation of a generator under training: the same held-out prompts and seeds each time, measured and drawn as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zreward.common.files import atomic_path
from zreward.distribution import ScoreDistribution
from zreward.generation.adaptation import Adaptation
from zreward.generation.aggregate import Aggregate
from zreward.generation.anchor import drift
from zreward.generation.drawn import diversity, draw_all, grid, own_seeds
from zreward.generation.guards import Evaluation
from zreward.generation.judges import Judge
from zreward.generation.sampling import SamplingPlan, draw
from zreward.models.reward_model import RewardModel

PICTURES, FIRST_SEED = 2, 10_000  # of a prompt
GRID_PROMPTS = 8


class Evaluator:
    """Draws with the averaged weights. `holdout` is the judge that is not trained on, if there is one.

    The scores of `final`, the judge of the last comparison, are recorded but decide nothing.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        prompts: Sequence[str],
        student: RewardModel,
        dimensions: Sequence[str],
        aggregate: Aggregate,
        holdout: Judge | None,
        final: Judge | None,
        steps: int,
        batch_size: int,
        options: dict[str, Any],
    ) -> None:
        self.adaptation, self.prompts, self.student, self.dimensions = adaptation, prompts, student, dimensions
        self.aggregate, self.holdout, self.final = aggregate, holdout, final
        self.steps, self.batch_size, self.options = steps, batch_size, options
        self._seeds = own_seeds(len(prompts), PICTURES, FIRST_SEED)
        self._reference: ScoreDistribution | None = None

    @torch.no_grad()
    def evaluate(self, step: int, grids: Path | None = None) -> Evaluation:
        """Draw and measure after `step` optimizer steps; the grid of pictures goes to a file in `grids`."""
        prompts = [prompt for prompt in self.prompts for _ in range(PICTURES)]
        with self.adaptation.averaged():
            pixels = self._draw(self.adaptation.pipeline)
            moved = self._drift()
        scores = self._scores(pixels, prompts)
        if self.aggregate.kind == "beats" and self._reference is None:
            with self.adaptation.frozen_pipeline() as pipeline:
                self._reference = self._scores(self._draw(pipeline), prompts)
        if grids is not None:
            shown = grid(pixels[: GRID_PROMPTS * PICTURES], GRID_PROMPTS, zoom=max(1, 96 // pixels.shape[-1]))
            with atomic_path(grids / f"step-{step:05d}.png") as temporary:
                shown.save(temporary, format="PNG")
        scale = self.student.rubric.scale
        return Evaluation(
            step,
            self.aggregate(scores, self._reference).mean().item(),
            dict(zip(scores.dimensions, scores.mean.mean(0).tolist(), strict=True)),
            self._judged(self.holdout, pixels, prompts),
            scores.entropy.mean().item(),
            (scores.mean > scale.max - scale.step).float().mean().item(),
            diversity(pixels, PICTURES),
            moved,
            self._judged(self.final, pixels, prompts),
        )

    def _judged(self, judge: Judge | None, pixels: Tensor, prompts: Sequence[str]) -> dict[str, float]:
        """Mean score by dimension; empty without a judge."""
        if judge is None:
            return {}
        means = judge(pixels, prompts).mean(0).tolist()
        return {name: mean for name, mean in zip(judge.dimensions, means, strict=True) if name in self.dimensions}

    def _draw(self, pipeline: Any) -> Tensor:
        with self.adaptation.computing():
            return draw_all(pipeline, self.prompts, self._seeds, self.steps, self.batch_size, **self.options)

    def _drift(self) -> float:
        """Of a fixed batch of the prompts, over all denoising steps."""
        count = min(self.batch_size, len(self.prompts))
        seeds, plan = [mine[0] for mine in self._seeds[:count]], SamplingPlan(self.steps)
        with self.adaptation.computing():
            drawn = draw(self.adaptation.pipeline, self.prompts[:count], seeds, plan, record=True, **self.options)
        with self.adaptation.frozen() as frozen:
            return drift(drawn.calls, frozen).item()

    def _scores(self, pixels: Tensor, prompts: Sequence[str]) -> ScoreDistribution:
        return score_pixels(self.student, pixels, prompts, self.dimensions, self.batch_size)


@torch.no_grad()
def score_pixels(
    model: RewardModel, pixels: Tensor, prompts: Sequence[str], dimensions: Sequence[str], batch_size: int
) -> ScoreDistribution:
    """Distributions (N, D, S) of pixels (N, 3, H, W) in [0, 1], on the CPU."""
    parts = [
        model(pixels[n : n + batch_size].to(model.device), prompts[n : n + batch_size], dimensions).to("cpu")
        for n in range(0, len(pixels), batch_size)
    ]
    return ScoreDistribution.cat(parts)
