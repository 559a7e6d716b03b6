"""What ends a run early: SIGTERM, and a dev metric that no longer grows. What is kept of it: the best weights so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.common.files import write_json
from zreward.common.runs import METRICS, say
from zreward.training.recipe import BEST_METRICS

if TYPE_CHECKING:
    from zreward.training.trainer_base import RewardTrainer

BEST, BEST_FACTS = "best", "best.json"


class StopWhenAsked(TrainerCallback):
    """Ends the run with a checkpoint after the step in which one of the processes was sent SIGTERM.

    Where a roll-out is reused, after its last update: that is where a run can go on.
    """

    def __init__(self, trainer: RewardTrainer, asked: Event) -> None:
        self.trainer, self.asked = trainer, asked
        self.stopped = False

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.asked.is_set():
            self.trainer.accelerator.set_trigger()
        if state.global_step % self.trainer.recipe.rollout.updates_per_rollout:
            return
        if self.trainer.accelerator.check_trigger() and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True


class KeepBest(TrainerCallback):
    """Keeps the weights of the best dev point in RUN/best; ends the run after `patience` points without a better one.

    It stands behind the dev curve, and reads its points from the run's log, so that a resumed run decides as one that was not
    interrupted.
    """

    def __init__(self, trainer: RewardTrainer, metric: str, patience: int | None) -> None:
        self.trainer, self.metric, self.patience = trainer, metric, patience

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 0:
            self._see(state, control)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._see(state, control)

    def _see(self, state, control) -> None:
        if not any(row["step"] == state.global_step and self.metric in row for row in state.log_history):
            return
        # The first process decides for all: saving takes every one of them, and their points may differ in the last digit.
        log = broadcast_object_list([state.log_history])[0]
        points = points_of(log, self.metric)
        if not points or points[-1][0] != state.global_step:
            return
        step, value = best_of(points)
        if step == state.global_step:
            run = self.trainer.run.path
            self.trainer.save_model(str(run / BEST))
            if state.is_world_process_zero:
                write_json(run / BEST_FACTS, {"step": step, "metric": self.metric, "value": value})
        if state.global_step < state.max_steps and is_out_of_patience(log, self.metric, self.patience):
            if state.is_world_process_zero:
                say(f"stopped at step {state.global_step}: {self.metric} has not grown since step {step} ({value:.4f})")
            control.should_training_stop = True


def has_ended(checkpoint: Path, metric: str | None, patience: int | None) -> bool:
    """Whether the run had lost its patience when it wrote this checkpoint: there is nothing left to train."""
    if patience is None:
        return False
    log = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).log_history
    return is_out_of_patience(log, metric, patience)


def points_of(log: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    """Step and value of every point of the dev curve. Values that are not finite (a constant's correlation) are no points."""
    values = [(row["step"], row[metric]) for row in log if row.get(metric) is not None]
    return [(step, value) for step, value in values if math.isfinite(value)]


def is_out_of_patience(log: Sequence[Mapping[str, Any]], metric: str | None, patience: int | None) -> bool:
    """Whether `patience` points have come since the best one."""
    if metric is None or patience is None:
        return False
    points = points_of(log, metric)
    return bool(points) and sum(step > best_of(points)[0] for step, _ in points) >= patience


def best_of(points: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The highest, the first of equals."""
    return max(points, key=lambda point: (point[1], -point[0]))


def read_best(run: Path) -> dict[str, Any] | None:
    """Step, metric and value of the best weights of a run, where it keeps them. InputError for a damaged file."""
    file = run / BEST_FACTS
    if not file.exists():
        return None
    found = read_json(file)
    step, metric, value = (found.get(key) for key in ("step", "metric", "value"))
    if not isinstance(step, int) or metric not in BEST_METRICS or not isinstance(value, int | float):
        raise InputError(
            f"{file} holds {shown(found)}, expected step, metric and value of the weights in {run / BEST}; it is damaged. The "
            f"points of the dev curve are in {run / METRICS}"
        )
    return found
