"""What both trainers share: which settings are refused, how a run goes on, what a checkpoint leaves behind."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import ProgressCallback, Trainer, TrainerCallback

from tests.tiny import tiny_model
from tests.training.idle_trainer import Idle
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics, remove_checkpoint
from zreward.training import trainer_base
from zreward.training.trainer_base import RewardTrainer, training_arguments

# --- settings


def test_trackers_are_those_of_the_recipe(make_recipe, tmp_path):
    recipe = replace(make_recipe("sft"), report_to=["tensorboard"])
    assert training_arguments(recipe, RunDirectory(tmp_path)).report_to == ["tensorboard"]


def test_a_library_that_a_setting_needs_and_that_is_absent_is_one_message(make_recipe, tmp_path, monkeypatch):
    def refuse(**options):
        raise ImportError("this optimizer needs a library that is not installed")

    monkeypatch.setattr(trainer_base, "TrainingArguments", refuse)
    with pytest.raises(InputError, match="transformers refuses .* needs a library that is not installed"):
        training_arguments(make_recipe("sft"), RunDirectory(tmp_path))


def test_a_tracker_that_does_not_exist_is_one_message(make_idle):
    with pytest.raises(InputError, match="transformers.Trainer refuses report_to or trainer: .*no_such_tracker"):
        make_idle(report_to=["no_such_tracker"])


def test_one_progress_bar_of_our_own_and_none_where_it_is_switched_off(make_idle):
    own = TrainerCallback()
    trainer = make_idle([own])
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert kinds.count(trainer_base._Progress) == kinds.count(trainer_base._RunFiles) == 1
    assert ProgressCallback not in kinds and own in trainer.callback_handler.callbacks
    silent = make_idle(trainer={"disable_tqdm": True})
    assert not any(isinstance(callback, ProgressCallback) for callback in silent.callback_handler.callbacks)


def test_transformers_gets_the_backbone_the_settings_and_the_items(make_idle):
    trainer = make_idle()
    assert trainer.model is trainer.reward_model.backbone and trainer.args.max_steps == 6
    assert trainer.train_dataset == [1, 2, 3] and trainer.data_collator([1]) == {"items": [1]}


@pytest.mark.parametrize("wanted", [None, True, False])
@pytest.mark.parametrize("rubric", ["", "The levels:"])
def test_what_rows_have_in_common_is_shared_as_the_recipe_says_or_where_the_rubric_stands_in_front(
    make_recipe, tmp_path, wanted, rubric
):
    model, recipe = tiny_model(), make_recipe("sft")
    model.forms = replace(model.forms, rubric=rubric)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, share_prefix=wanted))
    trainer = Idle(model, recipe, RunDirectory(tmp_path / "run"), [1])
    assert trainer.shares is (bool(rubric) if wanted is None else wanted)


@pytest.mark.parametrize(
    ("device", "options", "tf32", "formats"),
    [
        ("cpu", {}, [], [torch.float32]),
        ("cpu", {"bf16": True}, [], [torch.bfloat16, torch.float32]),
        ("cpu", {"fp16": True}, [], [torch.float16, torch.float32]),
        ("cuda", {"tf32": None}, [False], [torch.float32]),
        ("cuda", {"tf32": True}, [True], [torch.float32]),
    ],
)
def test_kernels_are_checked_in_every_format_that_training_computes_in(
    make_idle, monkeypatch, device, options, tf32, formats
):
    seen: dict[str, list] = {"tf32": [], "kernels": []}
    monkeypatch.setattr(trainer_base, "set_tf32", seen["tf32"].append)
    monkeypatch.setattr(trainer_base, "use_right_kernels", lambda *given: seen["kernels"].append(given))
    trainer, teacher = make_idle(), tiny_model()
    trainer.args = SimpleNamespace(
        **{"device": torch.device(device), "bf16": False, "fp16": False, "tf32": None} | options
    )
    trainer.prepare_device()
    trainer.read = ((), (), teacher)
    trainer.prepare_device()
    (models, found, where), (with_teacher, _, _) = seen["kernels"]
    assert list(models) == [trainer.reward_model.backbone] and isinstance(models, torch.nn.Module)
    assert list(with_teacher) == [trainer.reward_model.backbone, teacher.backbone]
    assert found == formats and where == torch.device(device)
    assert seen["tf32"] == 2 * tf32 and all(type(value) is bool for value in seen["tf32"])


def test_a_trainer_says_what_to_collate(make_recipe, tmp_path):
    with pytest.raises(NotImplementedError):
        RewardTrainer(tiny_model(), make_recipe("sft"), RunDirectory(tmp_path / "run"), [1]).collate([1])
    assert RewardTrainer.read == ((), (), None)


def test_the_bar_shows_a_point_of_the_dev_curve_that_was_written_between_two_logs():
    shown = []
    progress = trainer_base._Progress()
    progress.training_bar = SimpleNamespace(set_postfix=lambda figures: shown.append(dict(figures)))
    log = [{"loss": 9.0}, {"dev_hpa": 0.75}, {"loss": 1.25}]
    progress.on_log(None, SimpleNamespace(is_world_process_zero=True, log_history=log), None)
    assert shown == [{"dev_hpa": "0.750", "loss": "1.250"}]


# --- how a run goes on


@pytest.mark.parametrize(
    ("step", "expected"), [(None, "trained from"), (5, "trained from"), (6, "loaded"), (7, "loaded")]
)
def test_a_run_goes_on_from_its_checkpoint_unless_that_is_of_the_last_step(
    make_idle, tmp_path, monkeypatch, step, expected
):
    trainer, seen, fitted = make_idle(), [], []
    checkpoint = None if step is None else tmp_path / f"checkpoint-{step}"
    monkeypatch.setattr(trainer_base, "fit_shards", lambda *given: fitted.append((*given, list(seen))))
    trainer.train = lambda resume_from_checkpoint: seen.append(("trained from", resume_from_checkpoint))
    trainer._load_from_checkpoint = lambda folder: seen.append(("loaded", folder))
    trainer.run_to_end(checkpoint)
    assert seen == [(expected, None if checkpoint is None else str(checkpoint))]
    assert fitted == ([(trainer.accelerator, checkpoint, [])] if step == 5 else [])  # before the engine reads them


def test_the_bar_is_closed_before_a_message(make_idle):
    trainer, closed = make_idle(), []

    def stop(resume_from_checkpoint):
        (bar,) = [each for each in trainer.callback_handler.callbacks if isinstance(each, trainer_base._Progress)]
        bar.training_bar = SimpleNamespace(close=lambda: closed.append(True))
        raise FloatingPointError

    trainer.train = stop
    with pytest.raises(FloatingPointError):
        trainer.run_to_end(None)
    assert closed == [True]
    trainer = make_idle()
    trainer.train = lambda resume_from_checkpoint: None  # no bar was ever drawn
    trainer.run_to_end(None)


# --- checkpoints


@pytest.fixture
def saving(monkeypatch):
    """In place of Trainer's own saving, which writes model, optimizer and random states; `saving.error` is raised by it."""
    given = SimpleNamespace(error=None, at_once=False, synced=[])

    def save(trainer, model, trial):
        assert model is trainer.model and trial is None
        if given.at_once:
            raise given.error
        folder = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w")
        if given.error is not None:
            raise given.error

    monkeypatch.setattr(Trainer, "_save_checkpoint", save)
    monkeypatch.setattr(
        trainer_base, "sync_folder", lambda folder: given.synced.append([each.name for each in folder.iterdir()])
    )
    return given


def save_at(trainer: Idle, *steps: int) -> list[str]:
    """Names of the whole checkpoints after saving at these steps."""
    for step in steps:
        trainer.state.global_step = step
        trainer._save_checkpoint(trainer.model, None)
    return [folder.name for folder in trainer.run.checkpoints()]


def test_the_newest_checkpoints_are_kept(make_idle, saving):
    trainer = make_idle(keep_checkpoints=2)
    assert save_at(trainer, 2, 9, 10) == ["checkpoint-9", "checkpoint-10"]
    assert not (trainer.run.checkpoint_folder / "checkpoint-2").exists()
    assert saving.synced == [["weights"]] * 3  # on the disk before the marker is


def test_other_processes_wait_and_write_nothing_of_their_own(make_idle, saving):
    trainer, waited = make_idle(), []
    trainer.accelerator.wait_for_everyone = lambda: waited.append(True)
    trainer.state.is_world_process_zero = False
    assert save_at(trainer, 2) == [] and waited == [True]
    assert not (trainer.run.path / "metrics.jsonl").exists()
    trainer.state.is_world_process_zero = True
    assert save_at(trainer, 3) == ["checkpoint-3"] and waited == [True, True]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_disk_that_refuses_leaves_the_checkpoints_before(make_idle, saving, at_once):
    trainer = make_idle(keep_checkpoints=1)
    save_at(trainer, 2)
    saving.error, saving.at_once = OSError(errno.ENOSPC, "No space left on device"), at_once
    message = (
        "checkpoint-4: cannot write: .*[a-z]; older checkpoints are intact: free disk space and continue with --resume"
    )
    with pytest.raises(InputError, match=message):
        save_at(trainer, 4)
    assert [folder.name for folder in trainer.run.checkpoint_folder.iterdir()] == ["checkpoint-2"]
    assert [folder.name for folder in trainer.run.checkpoints()] == ["checkpoint-2"]


def test_a_checkpoint_that_cannot_be_removed_whole_is_none_any_more(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints" / "checkpoint-3"
    folder.mkdir(parents=True)
    (folder / "COMPLETE").touch()
    (folder / "weights").touch()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # a kill between the two
        remove_checkpoint(folder)
    assert RunDirectory(tmp_path).checkpoints() == [] and not folder.exists()
    remove_checkpoint(folder)  # another process was first
    assert not folder.exists()


def test_the_file_of_metrics_has_the_rows_of_the_log_as_soon_as_they_are_there(tmp_path):
    run = RunDirectory(tmp_path)
    files = trainer_base._RunFiles(run)

    def after(step, log, main=True) -> list:
        getattr(files, step)(None, SimpleNamespace(is_world_process_zero=main, log_history=log), None)
        return read_metrics(tmp_path)

    first, second, third = ({"step": n, "loss": n / 4} for n in (1, 2, 3))
    assert after("on_log", [first, second]) == [first, second]
    assert after("on_log", [first, second, third]) == [first, second, third]
    assert after("on_train_begin", [first], main=False) == [first, second, third]
    assert after("on_train_begin", [first, second]) == [first, second]  # resumed: what came later is logged again
    assert after("on_log", [first, second, third], main=False) == [first, second]
    assert after("on_log", [first, second, third]) == [first, second, third]
    assert after("on_train_end", [second, third]) == [second, third]
