"""What a run directory says about itself, and how a message tells what differs."""

from __future__ import annotations

import pytest

from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, differences, read_metrics, refuse_differences


def test_differences_name_dotted_keys_old_and_new_values_shortened():
    old = {"a": {"b": 1, "same": [1, 2]}, "gone": "x" * 200, "t": (1, 2)}
    new = {"a": {"b": 2, "same": (1, 2)}, "new": None, "more": True, "t": [1, 2]}
    assert differences(old, new) == ["a.b: 1, now 2", f'gone: "{"x" * 59}..., now none', "more: none, now true"]
    refuse_differences("this", old, old, "go away")
    with pytest.raises(InputError, match=r"^this \(different: a.b: 1, now 2, .*\); go away$"):
        refuse_differences("this", old, new, "go away")


def test_steps_after_the_checkpoint_and_half_a_line_are_forgotten(tmp_path):
    for step in range(1, 6):
        RunDirectory(tmp_path).append_metrics({"step": step, "reward": float("nan")})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "rew')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    RunDirectory(tmp_path).cut_metrics(3)
    RunDirectory(tmp_path).append_metrics({"step": 4, "reward": 1.0})
    assert [(row["step"], row["reward"]) for row in read_metrics(tmp_path)] == [
        (1, None),
        (2, None),
        (3, None),
        (4, 1.0),
    ]


def test_a_run_that_was_killed_at_its_first_files_is_not_in_use(tmp_path):
    assert not RunDirectory(tmp_path / "none").is_in_use
    (tmp_path / "inputs.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()  # the Trainer makes it before the first file is written
    assert not RunDirectory(tmp_path).is_in_use
    (tmp_path / "recipe.yaml").write_text("{}")
    assert RunDirectory(tmp_path).is_in_use
