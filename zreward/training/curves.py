"""The dev curve: how well a model under training does on held-out prompts, every so many steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from zreward.common.jobs import Job
from zreward.data import Preference, Record
from zreward.data.preference import records_of
from zreward.evaluation.prediction import metrics_table, predict
from zreward.evaluation.preference_prediction import answering, predict_preferences
from zreward.evaluation.preference_table import preference_rows, voted_pairs
from zreward.evaluation.tables import POOLED
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import DEV_METRICS, PREFERENCE_METRICS


class Curve(TrainerCallback):
    """Adds a point to the log at step 0 and every `every` steps.

    Of several processes each scores its part of the pictures, and all have the same points.
    """

    records: Sequence[Record]
    """Every picture that it asks about."""
    preferences: Sequence[Preference] = ()
    """Whose pictures the records are, where it compares with votes."""
    metrics: tuple[str, ...]
    """The names in a point."""

    def __init__(
        self,
        model: RewardModel,
        dimensions: Sequence[str],
        reasoning: bool,
        every: int,
        seed: int,
        temperature: float = 1.0,
        batch_size: int | None = None,
    ) -> None:
        self.model, self.dimensions, self.every = model, tuple(dimensions), every
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
        pooled = self._measure(self.how | {"progress": False, "job": job, "together": self.model.backbone.is_sharded})
        point = {name: pooled[name.removeprefix("dev_")] for name in self.metrics}
        state.log_history.append({"step": state.global_step, **point})
        if self.trackers is not None:
            self.trackers.call_event("on_log", args, state, control, logs=dict(point))

    @abstractmethod
    def _measure(self, how: dict[str, Any]) -> dict[str, Any]:
        """The row of all dimensions together; `how` the model is asked."""


class DevCurve(Curve):
    """How well rated pictures are scored: dev_hpa, dev_margin_hpa, dev_plcc and dev_srcc, dimensions pooled."""

    metrics = DEV_METRICS

    def __init__(self, model: RewardModel, records: list[Record], *how: Any, **more: Any) -> None:
        super().__init__(model, *how, **more)
        self.records = records

    def _measure(self, how: dict[str, Any]) -> dict[str, Any]:
        return _pooled(metrics_table(predict(self.model, self.records, self.dimensions, **how), self.records))


class PreferenceCurve(Curve):
    """How well votes are told: dev_accuracy, dev_vote_agreement, dev_preference_nll and dev_preference_ece, dimensions pooled."""

    metrics = PREFERENCE_METRICS

    def __init__(
        self, model: RewardModel, preferences: Sequence[Preference], dimensions: Sequence[str], *how: Any
    ) -> None:
        self.answers = answering(preferences, model.rubric.dimension_names, dimensions)
        super().__init__(model, tuple(dict.fromkeys(name for own in self.answers.values() for name in own)), *how)
        self.preferences, self.records = preferences, records_of(preferences)

    def _measure(self, how: dict[str, Any]) -> dict[str, Any]:
        said = predict_preferences(self.model, self.preferences, self.dimensions, **how)
        return _pooled(preference_rows(voted_pairs(said, self.preferences, self.answers), resamples=0))


def _pooled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["dimension"] == POOLED)
