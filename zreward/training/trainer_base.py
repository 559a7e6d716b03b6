"""What both trainers share on top of transformers.Trainer: saving and loading reward models, step records, run files.

The trained module is the reward model's backbone. A checkpoint is a reward-model folder beside the optimizer, scheduler
and random states that Trainer writes; a marker written last tells a whole checkpoint from one that was cut off.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME

from zreward.common.errors import InputError
from zreward.common.files import disk_errors, sync_folder
from zreward.common.runs import COMPLETE, RunDirectory, step_of
from zreward.data import Preference, Record
from zreward.models.checkpoint import load_weights, save
from zreward.models.devices import warn_of_slow_formats
from zreward.models.kernels.check import use_right_kernels
from zreward.models.precision import set_tf32
from zreward.models.reward_model import RewardModel
from zreward.training.engines import in_full_precision, mismatches_told, one_gpu_a_process, save_optimizer_of_shards
from zreward.training.projector import give_own_groups, hold_the_rest
from zreward.training.recipe import Recipe
from zreward.training.stopping import has_ended
from zreward.training.zero_shards import fit_shards, mend_read_shards, settings_of

_REFUSED = "refused"  # key of a batch that a worker could not make
WEIGHT = "weight"  # key of a batch: its items over those of the mean process
MOST = "most"  # the same: items of the process that has most


def training_arguments(recipe: Recipe, run: RunDirectory, computed_in: torch.dtype | None = None) -> TrainingArguments:
    """Our recipe in transformers' words; `recipe.trainer` has the last say.

    `computed_in`: the half precision of passes over weights that are kept in float32 (autocast).
    """
    options: dict[str, Any] = {
        "output_dir": str(run.checkpoint_folder),
        "max_steps": recipe.optimizer.steps,
        "per_device_train_batch_size": recipe.optimizer.batch_size,
        "gradient_accumulation_steps": recipe.optimizer.gradient_accumulation,
        "learning_rate": recipe.optimizer.learning_rate,
        "lr_scheduler_type": recipe.optimizer.schedule,
        "warmup_steps": recipe.optimizer.warmup_steps,
        "weight_decay": recipe.optimizer.weight_decay,
        "max_grad_norm": recipe.optimizer.max_grad_norm,
        "gradient_checkpointing": recipe.optimizer.gradient_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "report_to": recipe.report_to,
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": False,
        "dataloader_num_workers": recipe.data.workers,
    }
    if computed_in is torch.bfloat16:
        options["bf16"] = True
    elif computed_in is torch.float16:
        options["fp16"] = torch.cuda.is_available()  # its loss is scaled, which needs a GPU
    if recipe.data.workers:  # forked: nothing is sent to a worker, above all no model
        options["dataloader_multiprocessing_context"] = "fork"
    try:
        return TrainingArguments(**options | recipe.trainer)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"recipe: transformers refuses optimizer.schedule, report_to or trainer: {error}") from error


class RewardTrainer(Trainer):
    """transformers.Trainer over a reward model's backbone. Metrics of micro-batches are averaged into each step's log."""

    read: tuple[Sequence[Record], Sequence[Record], RewardModel | None] = ((), (), None)
    """What it was made from: records to train on, records of the dev curve, teacher."""
    preferences: Sequence[Preference] = ()
    """And preferences to train on."""
    dev_preferences: Sequence[Preference] = ()
    """Those of the dev curve."""
    counted: float = 1.0
    """What the micro-batch counts whose metrics are recorded: its items, over those of the mean process."""

    def __init__(self, reward_model: RewardModel, recipe: Recipe, run: RunDirectory, dataset, callbacks=()) -> None:
        self.reward_model, self.recipe, self.run = reward_model, recipe, run
        self._step_metrics: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._has_begun = False  # an engine has the weights
        arguments = one_gpu_a_process(training_arguments(recipe, run, reward_model.computed_in))
        try:
            super().__init__(
                model=reward_model.backbone,
                args=arguments,
                data_collator=self._collate,
                train_dataset=dataset,
                callbacks=[_RunFiles(run), *callbacks],
            )
        except ValueError as error:
            raise InputError(f"recipe: transformers.Trainer refuses report_to or trainer: {error}") from error
        if self.pop_callback(ProgressCallback):
            self.add_callback(_Progress())
        in_full_precision(self.accelerator)
        wanted = recipe.optimizer.share_prefix
        self.shares = bool(reward_model.forms.rubric) if wanted is None else wanted

    def prepare_device(self) -> None:
        """Float32 is float32 unless `trainer.tf32` is set; kernels that are not right on this device are replaced."""
        arguments, teacher = self.args, self.read[2]
        if arguments.device.type == "cuda":
            set_tf32(bool(arguments.tf32))
        models = [self.reward_model.backbone, *([teacher.backbone] if teacher else [])]
        formats = {model.base.dtype for model in models}  # outside of autocast: the dev curve, roll-outs
        formats |= {torch.bfloat16} if arguments.bf16 else {torch.float16} if arguments.fp16 else set()
        warn_of_slow_formats(formats, arguments.device)
        use_right_kernels(nn.ModuleList(models), sorted(formats, key=str), arguments.device)

    def collate(self, items: list[Any]) -> dict[str, Any]:
        """A batch of items with their pictures opened. Nothing is drawn in here: it runs ahead of the step."""
        raise NotImplementedError

    def _collate(self, items: list[Any]) -> dict[str, Any]:
        """In a worker a refusal is handed on: torch would put the worker's traceback into its message."""
        try:
            return self.collate(items)
        except InputError as error:
            if get_worker_info() is None:
                raise
            return {_REFUSED: str(error)}

    def indices_of_an_epoch(self) -> int:
        """How many items its sampler names."""
        return len(cast(Sequence[Any], self.train_dataset))

    def first_of(self, batch: dict[str, Any], count: int) -> dict[str, Any]:
        """What `collate` makes of the first `count` items of a batch, one at least."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(self._weighed(epoch_iterator), num_batches, device)
        refused = next((batch[_REFUSED] for batch in batches if _REFUSED in batch), None)
        if refused is not None:
            raise InputError(refused)
        return batches, items

    def _weighed(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Takes out what accelerate repeats to give every process an equal last batch: one process would not see it.

        A process without an item of its own passes one on with weight 0: the others wait for its gradients.
        """
        for batch in batches:
            last = self.accelerator.gradient_state.end_of_dataloader and not self.args.dataloader_drop_last
            size, ranks = self.args.per_device_train_batch_size, self.args.world_size
            left = self.indices_of_an_epoch() % (size * ranks) if last else 0
            if left and ranks > 1 and _REFUSED not in batch:
                own = min(max(left - self.args.process_index * size, 0), size)
                batch = self.first_of(batch, max(own, 1)) | {WEIGHT: own * ranks / left, MOST: min(left, size)}
            yield batch

    def record(self, **metrics: Tensor | float) -> None:
        """Add values to this step's log entry (their mean over the step's micro-batches, by `counted`, is logged)."""
        for name, value in metrics.items():
            self._step_metrics[name].append((float(value), self.counted))

    def refuse_nan(self, loss: Tensor) -> None:
        """A loss that is not finite stops the run: the last checkpoint is the last good state."""
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"step {self.state.global_step}: the loss is {loss.item()}. {self.last_good()}. "
                "Lower optimizer.learning_rate"
            )

    def last_good(self) -> str:
        """Which checkpoint a run that fails is gone on from, for a message."""
        last = self.run.last_checkpoint()
        if last is None:
            return "There is no checkpoint yet: start again"
        return f"The last good checkpoint is {last}: continue from it with --resume"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = logs | self._averages()
        super().log(logs, start_time)

    def _averages(self) -> dict[str, float]:
        """Of this step's metrics, over micro-batches and processes."""
        everywhere = gather_object([dict(self._step_metrics)])
        self._step_metrics.clear()
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, values in (item for one in everywhere for item in one.items()):
            found[name] += values
        return {name: statistics.fmean(*zip(*values, strict=True)) for name, values in found.items()}

    def _prepare_inputs(self, inputs):
        return {k: v.to(self.args.device) if hasattr(v, "to") else v for k, v in inputs.items()}

    def run_to_end(self, checkpoint: Path | None) -> None:
        """Train, from a checkpoint where there is one. One of the run's last step is loaded, and nothing is trained."""
        if checkpoint is not None and self._was_last(checkpoint):
            self._load_from_checkpoint(str(checkpoint))
            return
        self._has_begun = True
        if checkpoint is not None:
            fit_shards(self.accelerator, checkpoint)
        try:
            with mismatches_told():
                self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, _Progress) and callback.training_bar is not None:
                    callback.training_bar.close()  # a message is the last line, not half a bar

    def _was_last(self, checkpoint: Path) -> bool:
        ended = step_of(checkpoint) >= self.args.max_steps
        return ended or has_ended(checkpoint, self.recipe.best_by, self.recipe.patience)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Trainer's files, then the marker; only then do older checkpoints go.

        A disk that refuses is an InputError: the half-written checkpoint is removed, the one before it stays.
        """
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with disk_errors(folder, "; older checkpoints are intact: free disk space and continue with --resume"):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if not self.state.is_world_process_zero:
                    return
                sync_folder(folder)
                (folder / COMPLETE).touch()
        except InputError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.run.keep_checkpoints(self.recipe.keep_checkpoints)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self._has_begun:
            super().save_model(output_dir, _internal_call)
        else:
            self._save(output_dir)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """By one process. The others wait: what they add to the folder would vanish when the finished one takes its place."""
        if self.args.should_save:
            save(self.reward_model, Path(str(output_dir or self.args.output_dir)), state_dict=_inner(state_dict))
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.reward_model, Path(resume_from_checkpoint))

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*arguments, **options)
        if self.recipe.model.train_projector:
            give_own_groups(optimizer, self.reward_model.backbone, self.recipe.optimizer)
        self._groups = settings_of(optimizer)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        made = super().create_scheduler(num_training_steps, optimizer)
        if self.recipe.optimizer.projector_steps:
            hold_the_rest(made, self.recipe.optimizer, num_training_steps)
        return made

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.is_deepspeed_enabled:
            mend_read_shards(self.optimizer, self._groups)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert self.model is not None and self.lr_scheduler is not None, "training has begun"
        save_optimizer_of_shards(self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)


def _inner(state_dict: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Backbone names -> the Hugging Face model's names."""
    if state_dict is None:
        return None
    return {name.removeprefix("model."): value for name, value in state_dict.items() if name.startswith("model.")}


_SHOWN = ("loss", "reward", "dev_hpa", "dev_accuracy")


class _Progress(ProgressCallback):
    """One bar with the newest figures behind it; the whole log is in metrics.jsonl."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, str] = {}

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if state.is_world_process_zero and self.training_bar is not None:
            for entry in state.log_history[-2:]:  # a point of the dev curve stands before its step
                self._shown |= {
                    name: f"{entry[name]:.3f}"
                    for name in ("loss", "reward", "dev_hpa", "dev_accuracy")
                    if name in entry
                }
            self.training_bar.set_postfix(self._shown)


class _RunFiles(TrainerCallback):
    """Keeps metrics.jsonl in step with the log: a row as soon as it is there."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self._written = run, 0

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._rewrite(state)  # what a resumed run had logged after its checkpoint is logged again

    def on_log(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            for row in state.log_history[self._written :]:
                self.run.append_metrics(row)
            self._written = len(state.log_history)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._rewrite(state)

    def _rewrite(self, state) -> None:
        if state.is_world_process_zero:
            self.run.write_metrics(state.log_history)
            self._written = len(state.log_history)


def is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
