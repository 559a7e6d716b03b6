"""What the shared trainer asks of engines and other processes: batches, figures, who saves what."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer
from transformers.trainer import SCHEDULER_NAME

from zreward.training import trainer_base
from zreward.training.zero_shards import settings_of


def test_a_process_takes_one_gpu_and_no_weight_is_rounded(make_idle, monkeypatch):
    """On eight GPUs transformers would split a process's batch over all it sees; accelerate would cast under FSDP."""
    seen = []
    monkeypatch.setattr(trainer_base, "one_gpu_a_process", lambda arguments: seen.append(arguments) or arguments)
    monkeypatch.setattr(trainer_base, "in_full_precision", seen.append)
    trainer = make_idle()
    assert seen == [trainer.args, trainer.accelerator] and seen[0] is trainer.args


def test_figures_of_a_step_are_means_over_micro_batches_and_processes(make_idle, monkeypatch):
    """Where an epoch ends, a process has fewer items than another, or none."""
    trainer, other = make_idle(), {"reward": [(3.0, 1.0), (5.0, 0.5)], "kl": [(0.5, 1.0), (9.0, 0.0)]}
    monkeypatch.setattr(trainer_base, "gather_object", lambda own: [*own, other])
    assert trainer.counted == 1.0
    for reward, trainer.counted in ((1.0, 1.0), (2.0, 1.5)):
        trainer.record(reward=torch.tensor(reward))
    assert trainer._step_metrics["reward"] == [(1.0, 1.0), (2.0, 1.5)]
    assert all(type(value) is float for value, _ in trainer._step_metrics["reward"]), "a tensor would keep its graph"
    trainer.log({"loss": 7.0})
    assert {"loss": 7.0, "reward": (1 + 3 + 3 + 2.5) / 4, "kl": 0.5}.items() <= trainer.state.log_history[-1].items()
    trainer.log({"loss": 8.0})
    assert trainer.state.log_history[-1]["reward"] == 5.5 / 1.5  # this process added nothing to the second step


@pytest.mark.parametrize(
    ("items", "rank", "kept", "weight"),
    [
        (3, 0, 2, 4 / 3),  # of three items one process has two, the other one
        (3, 1, 1, 2 / 3),
        (5, 0, 1, 2.0),  # a step of four, then one with a single item
        (5, 1, 1, 0.0),  # without an item of its own it keeps the other company
    ],
)
def test_what_is_repeated_at_an_epochs_end_is_taken_out(make_idle, items, rank, kept, weight):
    trainer = make_idle()
    trainer.train_dataset = list(range(items))
    trainer.first_of = lambda batch, count: {"items": batch["items"][:count]}
    arguments = {
        "per_device_train_batch_size": 2,
        "world_size": 2,
        "process_index": rank,
        "dataloader_drop_last": False,
    }
    state = SimpleNamespace(end_of_dataloader=True)
    trainer.args, trainer.accelerator = SimpleNamespace(**arguments), SimpleNamespace(gradient_state=state)
    full = {"items": ["x", "y"]}
    (last,) = trainer._weighed(iter([full]))
    most = 2 if items == 3 else 1
    assert last == {"items": full["items"][:kept], "weight": pytest.approx(weight), "most": most}

    def as_it_is(batch: dict = full) -> bool:
        return list(trainer._weighed(iter([batch]))) == [batch]

    assert as_it_is({"refused": "a picture cannot be read"})
    state.end_of_dataloader = False
    assert as_it_is()
    state.end_of_dataloader, trainer.args.dataloader_drop_last = True, True
    assert as_it_is()
    trainer.args.dataloader_drop_last, trainer.args.world_size = False, 1
    assert as_it_is()
    trainer.args.world_size, trainer.train_dataset = 2, list(range(8))
    assert as_it_is()


def test_batches_come_weighed(make_idle, monkeypatch):
    trainer = make_idle()
    monkeypatch.setattr(Trainer, "get_batch_samples", lambda trainer, batches, *asked: (list(batches), asked))
    trainer._weighed = lambda batches: ({"weighed": batch} for batch in batches)
    assert trainer.get_batch_samples(iter([1, 2]), 2, "cpu") == ([{"weighed": 1}, {"weighed": 2}], (2, "cpu"))


def test_a_trainer_says_what_the_first_items_of_a_batch_are(make_idle):
    with pytest.raises(NotImplementedError):
        make_idle().first_of({}, 1)


@pytest.mark.parametrize("begun", [True, False])
def test_a_finished_runs_model_is_written_without_an_engine(make_idle, monkeypatch, begun):
    trainer, seen = make_idle(), []
    monkeypatch.setattr(Trainer, "save_model", lambda trainer, *given: seen.append(("by the engine", *given)))
    trainer._save = lambda folder: seen.append(("alone", folder))
    if begun:
        trainer.train = lambda resume_from_checkpoint: None
        trainer.run_to_end(None)
    trainer.save_model("model")
    assert seen == [("by the engine", "model", False) if begun else ("alone", "model")]


# --- what is saved and read


@pytest.fixture
def called(monkeypatch) -> list[tuple]:
    """Calls of the functions that write and mend what an engine's processes hold, in their order."""
    calls: list[tuple] = []
    for name in ("save", "save_optimizer_of_shards", "mend_read_shards"):
        monkeypatch.setattr(
            trainer_base, name, lambda *given, name=name, **options: calls.append((name, *given, *options.values()))
        )
    return calls


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_one_process_saves_the_model_and_all_wait_for_it(make_idle, called, monkeypatch, writes, folder):
    trainer, kept = make_idle(), torch.ones(1)
    monkeypatch.setattr(type(trainer.args), "should_save", writes)
    trainer.accelerator.wait_for_everyone = lambda: called.append(("waited",))
    trainer._save(folder, {"model.head": kept, "other": kept})
    expected = ("save", trainer.reward_model, Path(folder or trainer.args.output_dir), {"head": kept})
    assert called == [*([expected] if writes else []), ("waited",)]
    trainer._save(folder)
    assert not writes or called[-2][-1] is None


@pytest.mark.parametrize("writes", [True, False])
def test_a_sharded_optimizer_is_saved_by_all_and_its_schedule_by_one(make_idle, called, monkeypatch, tmp_path, writes):
    trainer = make_idle()
    monkeypatch.setattr(type(trainer.args), "should_save", writes)
    trainer.is_fsdp_enabled = True
    trainer.create_optimizer_and_scheduler(6)
    trainer._save_optimizer_and_scheduler(str(tmp_path))
    assert called == [
        ("save_optimizer_of_shards", trainer.accelerator, trainer.optimizer, trainer.model, str(tmp_path))
    ]
    schedule = tmp_path / SCHEDULER_NAME
    assert schedule.exists() is writes
    if writes:
        assert torch.load(schedule, weights_only=True) == trainer.lr_scheduler.state_dict()
    called.clear()
    trainer.is_fsdp_enabled = False
    trainer._save_optimizer_and_scheduler(str(tmp_path))
    assert called == []


@pytest.mark.parametrize("missing", ["model", "lr_scheduler"])
def test_nothing_is_saved_of_an_optimizer_before_training(make_idle, called, tmp_path, missing):
    trainer = make_idle()
    trainer.is_fsdp_enabled = True
    trainer.create_optimizer_and_scheduler(6)
    setattr(trainer, missing, None)
    with pytest.raises(AssertionError, match="training has begun"):
        trainer._save_optimizer_and_scheduler(str(tmp_path))
    assert called == []


@pytest.mark.parametrize("deepspeed", [True, False])
@pytest.mark.parametrize("checkpoint", ["there", None])
def test_the_settings_of_a_read_optimizer_are_those_it_was_made_with(
    make_idle, called, monkeypatch, deepspeed, checkpoint
):
    trainer, read = make_idle(), []
    monkeypatch.setattr(Trainer, "_load_optimizer_and_scheduler", lambda trainer, folder: read.append(folder))
    trainer.is_deepspeed_enabled = deepspeed
    optimizer = trainer.create_optimizer()
    assert optimizer is trainer.optimizer and trainer._groups == settings_of(optimizer)
    trainer._load_optimizer_and_scheduler(checkpoint)
    assert read == [checkpoint]
    mended = [("mend_read_shards", trainer.optimizer, trainer._groups)]
    assert called == (mended if deepspeed and checkpoint else [])
