"""Pictures opened in processes of their own: the same batches and losses, and an error names the picture."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics
from zreward.models.reward_model import RewardModel
from zreward.training import trainer_base
from zreward.training.recipe import load_recipe
from zreward.training.run import build_trainer, load_model, train
from zreward.training.trainer_base import training_arguments


def losses(recipe) -> list[tuple[float, float]]:
    train(recipe)
    return [(row["loss"], row["grad_norm"]) for row in read_metrics(Path(recipe.out)) if "loss" in row]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sft", {"data__augment": True, "data__word_dropout": 0.5, "optimizer__gradient_accumulation": 2}),
        ("gdso", {"rollout__updates_per_rollout": 2, "save_every": 2}),
    ],
)
def test_losses_do_not_depend_on_workers(make_recipe, tmp_path, monkeypatch, method, options):
    """More steps than an epoch has, so that workers end and start again. No picture is opened here with workers."""
    recipe = make_recipe(method, steps=14, **options)
    alone = losses(recipe)
    here, opened, decode = os.getpid(), [], RewardModel.decode
    monkeypatch.setattr(
        RewardModel, "decode", lambda self, image: opened.append(os.getpid() == here) or decode(self, image)
    )
    beside = losses(replace(recipe, out=str(tmp_path / "beside"), data=replace(recipe.data, workers=2)))
    assert len(alone) == 14 and beside == alone
    assert opened == []  # what workers append stays with them


def test_workers_are_forked_as_many_as_the_recipe_says(make_recipe, tmp_path):
    arguments = training_arguments(make_recipe("sft", data__workers=3), RunDirectory(tmp_path / "run"))
    assert (arguments.dataloader_num_workers, arguments.dataloader_multiprocessing_context) == (3, "fork")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_opened_any_more_is_named(make_recipe, tiny_data, tmp_path, workers):
    data = shutil.copytree(tiny_data["train"].parent, tmp_path / "own") / "train.jsonl"
    recipe = make_recipe("sft", steps=20, data__train=str(data), data__workers=workers)
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    broken = trainer.train_dataset[3][0].record.image
    assert isinstance(broken, str)
    Path(broken).write_bytes(Path(broken).read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        trainer.run_to_end(None)
    message = str(caught.value)
    assert message.startswith(broken) and "Traceback" not in message
    del trainer, caught
    gc.collect()
    assert not multiprocessing.active_children()


def test_workers_and_kept_pictures_exclude_each_other(make_recipe):
    with pytest.raises(InputError, match=r"data\.keep_images keeps .* set one of the two"):
        make_recipe("sft", data__keep_images=True, data__workers=1)


def test_a_system_that_cannot_fork_is_named(make_recipe, monkeypatch):
    monkeypatch.setattr("zreward.training.recipe.get_all_start_methods", lambda: ["spawn"])
    make_recipe("sft")
    with pytest.raises(InputError, match=r"data\.workers is 1, but \w+ cannot fork; set it to 0"):
        make_recipe("sft", data__workers=1)


def test_a_run_may_go_on_with_other_workers_but_with_no_other_batches(make_recipe):
    recipe = make_recipe("sft", steps=2, save_every=1)
    run = train(recipe).parent
    (run / "model" / "zreward.json").unlink()
    train(replace(recipe, data=replace(recipe.data, workers=2)), resume=True)
    assert (run / "model" / "zreward.json").exists()
    stored = load_recipe(run / "recipe.yaml")
    assert stored.data.workers == 0
    with pytest.raises(InputError, match=r"another recipe \(different: data\.smoothing"):
        train(replace(recipe, data=replace(recipe.data, smoothing=0.5)), resume=True)


def test_a_refusal_is_raised_in_this_process_and_handed_on_as_text_in_a_worker(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe("sft")
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))

    def refuse(items):
        raise InputError("no such picture")

    monkeypatch.setattr(trainer, "collate", refuse)
    with pytest.raises(InputError, match="no such picture"):
        trainer._collate([1])
    monkeypatch.setattr(trainer_base, "get_worker_info", lambda: "a worker")
    (text,) = trainer._collate([1]).values()
    assert text == "no such picture" and type(text) is str  # nothing of the worker's stack goes through the pipe
