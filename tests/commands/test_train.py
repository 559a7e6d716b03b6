"""`zreward train`: recipes, overrides and folders that end in one message."""

from __future__ import annotations

import shutil

import pytest
import yaml

from tests.commands.inputs import complains, recipe, records, row
from zreward.world.base_models import WEIGHTS, world_rubric


def test_unknown_recipe_key(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture))
    bad = recipe(tmp_path / "r.yaml", data, optimizer={"learning_rat": 1e-4})
    complains(zreward("train", bad), "optimizer.learning_rat", "did you mean optimizer.learning_rate?")
    complains(zreward("train", recipe(tmp_path / "r.yaml", data), "sede=3"), "sede", "did you mean seed?")


def test_label_of_two_tokens(zreward, picture, tmp_path):
    """A model folder without zreward.json takes the recipe's rubric; its labels must be single tokens."""
    shutil.copytree(WEIGHTS / "small", tmp_path / "model")
    (tmp_path / "model" / "zreward.json").unlink()
    raw = world_rubric().to_dict()
    raw["labels"] = [*raw["labels"][:-1], "10"]
    (tmp_path / "rubric.yaml").write_text(yaml.safe_dump(raw))
    wanted = {"name": str(tmp_path / "model"), "rubric": str(tmp_path / "rubric.yaml")}
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)), model=wanted)
    complains(zreward("train", train), "label '10'", "tokens", "exactly one token")


def test_missing_checkpoint_and_recipe(zreward, picture, tmp_path):
    complains(zreward("score", tmp_path / "nothing", picture, "--prompt", "x"), "no such checkpoint folder")
    complains(zreward("train", tmp_path / "none.yaml"), "none.yaml")


def test_a_run_directory_in_use_is_not_overwritten(zreward, picture, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("keep me")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)))
    complains(zreward("train", train), "is not empty", "--resume")
    complains(zreward("demo", "--out", tmp_path / "run"), "is not empty", "--resume")


def test_a_failed_start_does_not_block_the_corrected_one(zreward, picture, tmp_path):
    train = recipe(tmp_path / "r.yaml", tmp_path / "d.jsonl")
    complains(zreward("train", train), "d.jsonl")
    records(tmp_path / "d.jsonl", row(picture))
    code, _, _ = zreward("train", train)
    assert code == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.steps=[", "not YAML"),
        ("optimizer.schedule=cosin", "cosin"),
        ("trainer.foo=1", "foo"),
        ("report_to=[foo]", "foo"),
        ("model.lora_rank=-1", "model.lora_rank is -1"),
    ],
)
def test_overrides_that_cannot_be(zreward, picture, tmp_path, override, words):
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)))
    complains(zreward("train", train, override), words)
    assert not (tmp_path / "run").exists()
