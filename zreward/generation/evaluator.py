"""Evaluation of a generator under training: the same held-out prompts and seeds each time, measured and drawn as a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import lcm
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.common.jobs import Job
from zreward.common.ranks import gathered, own_numbers
from zreward.distribution import ScoreDistribution
from zreward.generation.adaptation import Adaptation
from zreward.generation.aggregate import Aggregate
from zreward.generation.anchor import drift
from zreward.generation.drawn import distances, draw_all, grid, own_seeds
from zreward.generation.guards import Evaluation
from zreward.generation.judges import Judge
from zreward.generation.monitor import Monitor
from zreward.generation.sampling import SamplingPlan, draw
from zreward.models.calibration import pair_scale
from zreward.models.reward_model import RewardModel

PICTURES, FIRST_SEED = 2, 10_000  # of a prompt
GRID_PROMPTS = 8
T = TypeVar("T")


def _kept_probs(file: Path, shape: torch.Size) -> Tensor:
    """What `Evaluator._of_frozen` wrote. InputError for anything else."""
    try:
        found = load_file(file)["probs"]
        if found.shape != shape:
            raise ValueError(f"shape {list(found.shape)}, expected {list(shape)}")
        return found
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{file} is damaged ({str(error)[:100]}); delete it, and the pictures are drawn again"
        ) from None


class Evaluator:
    """Draws with the averaged weights. `holdout` is the judge that is not trained on, if there is one.

    The scores of `final`, the judge of the last comparison, are recorded but decide nothing. `job` is this process among those
    of its launch. `kept` is a file for the student's distributions of the frozen generator's pictures, so that a resumed run
    need not draw these again.
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
        job: Job | None = None,
        monitor: Monitor | None = None,
        kept: Path | None = None,
    ) -> None:
        self.adaptation, self.prompts, self.student, self.dimensions = adaptation, prompts, student, dimensions
        self.aggregate, self.holdout, self.final = aggregate, holdout, final
        self.steps, self.batch_size, self.options = steps, batch_size, options
        self.job, self.monitor, self.kept = job, monitor, kept
        self._seeds = own_seeds(len(prompts), PICTURES, FIRST_SEED)
        # Whole batches of pictures, and all pictures of a prompt: what is computed together does not depend on the processes.
        self._own = own_numbers(job, len(prompts), lcm(batch_size, PICTURES) // PICTURES)
        self._reference: ScoreDistribution | None = None

    @torch.no_grad()
    def evaluate(self, step: int, grids: Path | None = None) -> Evaluation:
        """Draw and measure after `step` optimizer steps; the grid of pictures goes to a file in `grids`.

        All processes of a launch call this together. Each draws and measures its own prompts; all get the same numbers, and
        the first one writes the file.
        """
        with self.adaptation.averaged():
            pixels = self._draw(self.adaptation.pipeline)
            moved = self._drift()
        scores = self._scores(pixels)
        if (self.aggregate.kind == "beats" or self.monitor) and self._reference is None:
            self._reference = self._of_frozen(step, scores)
        if grids is not None:
            self._write_grid(pixels, grids / f"step-{step:05d}.png")
        scale = self.student.rubric.scale
        return Evaluation(
            step,
            self.aggregate(scores, self._reference).mean().item(),
            dict(zip(scores.dimensions, scores.mean.mean(0).tolist(), strict=True)),
            self._judged(self.holdout, pixels),
            scores.entropy.mean().item(),
            (scores.mean > scale.max - scale.step).float().mean().item(),
            torch.stack(self._of_all(distances(pixels, PICTURES).T), 1).mean().item(),
            moved,
            self._judged(self.final, pixels),
            self._monitored(scores, pixels),
        )

    def _of_frozen(self, step: int, scores: ScoreDistribution) -> ScoreDistribution:
        """The student's distributions of the frozen generator's pictures. For the monitor they are those of step 0, and kept."""
        file = self.kept if self.monitor is not None else None
        if file is not None and file.exists():
            return replace(scores, probs=_kept_probs(file, scores.probs.shape))
        if step or self.monitor is None:
            with self.adaptation.frozen_pipeline() as pipeline:
                scores = self._scores(self._draw(pipeline))
        if file is not None and (self.job is None or self.job.number == 1):
            with atomic_path(file) as temporary:
                save_file({"probs": scores.probs.contiguous()}, temporary)
        return scores

    def _monitored(self, scores: ScoreDistribution, pixels: Tensor) -> dict[str, float]:
        """What the monitor reads off; empty without one."""
        if self.monitor is None or self._reference is None:
            return {}
        unlike = None
        if self.monitor.familiar is not None:
            own = torch.empty(0, PICTURES, dtype=torch.float64)
            if self._own:
                own = self.monitor.unlike(pixels, self._asked(), self.dimensions, self.batch_size)
                own = own.unflatten(0, (-1, PICTURES))
            unlike = torch.cat(self._of_all(own))
        return self.monitor.read(scores, self._reference, unlike, PICTURES)

    def _of_all(self, values: Iterable[T]) -> list[T]:
        """One value for each prompt of this process -> for each prompt."""
        return gathered(self.job, dict(zip(self._own, values, strict=True)), len(self.prompts))

    def _judged(self, judge: Judge | None, pixels: Tensor) -> dict[str, float]:
        """Mean score by dimension; empty without a judge."""
        if judge is None:
            return {}
        own = judge(pixels, self._asked()) if self._own else np.empty((0, len(judge.dimensions)))
        means = np.concatenate(self._of_all(own.reshape(-1, PICTURES, len(judge.dimensions)))).mean(0).tolist()
        return {name: mean for name, mean in zip(judge.dimensions, means, strict=True) if name in self.dimensions}

    def _draw(self, pipeline: Any) -> Tensor:
        """The pictures of this process's prompts."""
        if not self._own:
            return torch.empty(0, 3, 1, 1)
        prompts, seeds = [self.prompts[n] for n in self._own], [self._seeds[n] for n in self._own]
        with self.adaptation.computing():
            return draw_all(pipeline, prompts, seeds, self.steps, self.batch_size, **self.options)

    def _asked(self) -> list[str]:
        """The prompt of each of this process's pictures."""
        return [self.prompts[number] for number in self._own for _ in range(PICTURES)]

    def _drift(self) -> float:
        """Of a fixed batch of the prompts, over all denoising steps; by the last process, which has the fewest pictures."""
        measures = self.job is None or self.job.number == self.job.count
        return gathered(self.job, {0: self._measure_drift()} if measures else {}, 1)[0]

    def _measure_drift(self) -> float:
        count = min(self.batch_size, len(self.prompts))
        seeds, plan = [mine[0] for mine in self._seeds[:count]], SamplingPlan(self.steps)
        with self.adaptation.computing():
            drawn = draw(self.adaptation.pipeline, self.prompts[:count], seeds, plan, record=True, **self.options)
        with self.adaptation.frozen() as frozen:
            return drift(drawn.calls, frozen).item()

    def _scores(self, pixels: Tensor) -> ScoreDistribution:
        """The student's, of the pictures of all processes."""
        own = torch.empty(0, PICTURES)
        if self._own:
            scored = score_pixels(self.student, pixels, self._asked(), self.dimensions, self.batch_size)
            own = scored.probs.unflatten(0, (-1, PICTURES))
        names, bins = tuple(self.dimensions), self.student.rubric.scale.bins
        scale = pair_scale(self.student.calibrations, "direct", names)
        return ScoreDistribution(torch.cat(self._of_all(own)), bins, names, scale)

    def _write_grid(self, pixels: Tensor, file: Path) -> None:
        own = (pixels * 255).round().to(torch.uint8).unflatten(0, (-1, PICTURES))
        first = self._of_all([each if n < GRID_PROMPTS else None for n, each in zip(self._own, own, strict=True)])
        if self.job is not None and self.job.number > 1:
            return
        pictures = torch.cat([each for each in first if each is not None]) / 255
        shown = grid(pictures, GRID_PROMPTS, zoom=max(1, 96 // pictures.shape[-1]))
        with atomic_path(file) as temporary:
            shown.save(temporary, format="PNG")


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
