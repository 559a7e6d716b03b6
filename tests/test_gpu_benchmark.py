"""The benchmark for a card, without one: what becomes of rows that fail or come too late, the true sizes, a run of all rows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks.row_runner import RowRunner, table_row

ROOT = Path(__file__).parent.parent
LONG = 10**6  # seconds: the budget counts from the start of this process


@pytest.fixture
def gpu_model(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_model

    return gpu_model


def fail():
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")


def test_a_row_that_fails_is_recorded_and_the_next_one_runs(tmp_path, capsys):
    runner = RowRunner(LONG, tmp_path / "f.json", {"device": "cpu"})
    runner.run("first", fail)
    assert json.loads((tmp_path / "f.json").read_text())["rows"].keys() == {"first"}  # written before the next one
    runner.run("second_row", lambda: {"per_second": 1.23456, "count": 2})
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["device"] == "cpu"
    assert written["rows"] == {
        "first": {"error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB"},
        "second_row": {"per_second": 1.23456, "count": 2},
    }
    assert capsys.readouterr().out.splitlines()[1] == "| second row | per second 1.235; count 2 |"


def test_warnings_stand_beside_the_figures():
    def warn():
        for _ in range(2):
            warnings.warn("batches are halved", stacklevel=1)
        return {"x": 1.0}

    kept = {"x": 1.0}
    runner = RowRunner(LONG, None, {})
    runner.run("row", warn)
    runner.run("other", lambda: kept)
    assert runner.rows == {"row": {"x": 1.0, "warnings": ["batches are halved"]}, "other": {"x": 1.0}}
    assert runner.rows["other"] is not kept  # a row may answer with what it keeps


def test_a_row_is_named_and_not_run_when_the_time_is_spent():
    runner = RowRunner(0.001, None, {})
    runner.run("late", lambda: pytest.fail("it ran"))
    assert runner.rows == {"late": {"skipped": "the 0 s were spent"}}


def test_a_row_is_stopped_when_the_time_is_spent():
    runner = RowRunner(LONG, None, {})
    runner.budget -= runner.left - 0.2  # so much is left
    began = time.monotonic()
    runner.run("endless", lambda: time.sleep(30))
    assert time.monotonic() - began < 10
    assert runner.rows["endless"]["error"].startswith("TimeoutError")
    runner.budget += LONG
    runner.run("next", lambda: {"x": 1})
    time.sleep(0.3)  # no alarm is left behind
    assert runner.rows["next"] == {"x": 1}


def test_rows_of_another_run_are_not_printed_twice():
    assert table_row("before", {"rows": {"model": {"x": 1}}, "y|z": "a|b"}) == "| before | y|z a/b |"


def test_the_true_sizes_have_as_many_parameters_as_the_released_model(gpu_model):
    tokenizer = gpu_model.tokenizer_of(gpu_model.Rubric.default(), gpu_model.PromptForms())
    made = gpu_model.network(gpu_model.NINE_B, tokenizer, torch.device("meta"))
    assert gpu_model.parameters_of(made) == gpu_model.NINE_B.parameters == 9_409_813_744
    assert {each.dtype for each in made.parameters()} == {torch.bfloat16}


def test_calls_take_turns_and_the_first_round_is_not_counted(gpu_model):
    asked = []

    def first():
        asked.append("first")
        time.sleep(0.3 if len(asked) == 1 else 0)

    quick, slow = gpu_model.measure(torch.device("cpu"), [first, lambda: asked.append("second") or time.sleep(0.05)])
    assert asked == ["first", "second"] * 3
    assert quick.seconds < 0.05 <= slow.seconds
    assert quick.figures() == {}  # memory of a card


@pytest.mark.slow
def test_every_row_runs_on_a_small_model(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    small = ["--tiny", "--device", "cpu", "--minutes", "30", "--json", str(tmp_path / "f.json"), "--before", str(ROOT)]
    names = subprocess.run([*command, "--list"], check=True, capture_output=True, text=True).stdout.split()
    subprocess.run([*command, *small], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    assert list(rows) == [*names, "before"]
    before = rows["before"]["rows"]
    assert {"score_32", "gradient_4_dimensions_2_pictures_keep"} <= set(before) < set(names)
    for figures in (*rows.values(), *before.values()):
        assert not {"error", "skipped", "warnings"} & set(figures)
    for name in ("score_32", "label", "gradient_4_dimensions_1_pictures_recompute"):
        assert rows[name]["pictures_per_second"] > 0
    assert rows["tokens"]["a_picture"] > rows["tokens"]["one_dimension"]
    assert rows["judge"]["tokens"] == 2 * 4  # two pictures, traces of four tokens
    assert rows["gdso_step"]["traces"] == 16 and rows["gdso_step"]["update_tokens"] > 0
