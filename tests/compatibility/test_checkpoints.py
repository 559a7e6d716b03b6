"""Checkpoints of commit 07f77a1 load, and answer as they did there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zreward.data import load_records
from zreward.models.reward_model import RewardModel


def check_answers(model: RewardModel, expected: Path) -> None:
    """The four pictures' distributions and greedy traces of write.py."""
    told = json.loads(expected.read_text())
    records = load_records("records.jsonl")[:4]
    pictures, prompts = [record.open_image() for record in records], [record.prompt for record in records]
    assert model.score(pictures, prompts).probs.tolist() == _close(told["direct"])
    judged = model.judge(pictures, prompts, temperature=0.0)
    assert [one.traces for one in judged] == told["traces"]
    assert [one.distribution.probs.tolist() for one in judged] == _close(told["reasoned"])


def _close(value):
    return [_close(item) for item in value] if isinstance(value, list) else pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("folder", "answers"), [("base", "base"), ("adapter", "gdso")])
def test_answers_are_the_same(written, folder, answers):
    model = RewardModel.from_pretrained(folder, device="cpu")
    assert model.rubric.name == "tiny" and model.rubric.dimension_names == ("alignment", "realism")
    check_answers(model, written / "expected" / f"{answers}.json")


@pytest.mark.parametrize("folder", ["base", "adapter"])
def test_saved_again_they_are_the_same_model(written, folder):
    RewardModel.from_pretrained(folder, device="cpu").save_pretrained("again")
    again = RewardModel.from_pretrained("again", device="cpu")
    check_answers(again, written / "expected" / f"{'gdso' if folder == 'adapter' else folder}.json")
