"""The dev curve: how well a model under training orders held-out prompts, every so many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from zreward.common.jobs import Job
from zreward.data import Record
from zreward.evaluation.prediction import metrics_table, predict
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import DEV_METRICS


class DevCurve(TrainerCallback):
    """Adds dev_hpa, dev_margin_hpa, dev_plcc and dev_srcc (dimensions pooled) to the log at step 0 and every `every` steps.

    Of several processes each scores its part of the records, and all have the same points.
    """

    def __init__(
        self,
        model: RewardModel,
        records: list[Record],
        dimensions: Sequence[str],
        reasoning: bool,
        every: int,
        seed: int,
        temperature: float = 1.0,
        batch_size: int | None = None,
    ) -> None:
        self.model, self.records, self.dimensions = model, records, tuple(dimensions)
        self.every = every
        self.how: dict[str, Any] = {
            "reasoning": reasoning,
            "seed": seed,
            "temperature": temperature,
            "batch_size": batch_size,
        }

    trackers: CallbackHandler | None = None
    """Who else is told of a point: what the recipe's `report_to` names."""

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 0:
            self._add_point(args, state, control)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._add_point(args, state, control)

    def _add_point(self, args, state, control) -> None:
        job = Job(args.process_index + 1, args.world_size) if args.world_size > 1 else None
        together = self.model.backbone.is_sharded
        predictions = predict(
            self.model, self.records, self.dimensions, progress=False, job=job, together=together, **self.how
        )
        pooled = next(row for row in metrics_table(predictions, self.records) if row["dimension"] == "all")
        point = {name: pooled[name.removeprefix("dev_")] for name in DEV_METRICS}
        state.log_history.append({"step": state.global_step, **point})
        if self.trackers is not None:
            self.trackers.call_event("on_log", args, state, control, logs=dict(point))
