"""The comparison with an earlier commit: turns, the figures made of them, and one small run with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.against import in_turns, score_figures, step_figures

ROOT = Path(__file__).parent.parent


def side(name, answers, asked):
    """One that gives its answers in order and notes who was asked."""
    left = iter(answers)

    def ask(**request):
        asked.append((name, request["what"]))
        return next(left)

    return SimpleNamespace(ask=ask)


def step(seconds, trace_tokens=64.0):
    return {"seconds": seconds, "trace_tokens": trace_tokens, "rollout_tokens": 10, "update_tokens": 20}


def test_sides_take_turns_and_the_first_round_is_not_counted():
    asked = []
    sides = {"a": side("a", [1, 2, 3], asked), "b": side("b", [4, 5, 6], asked)}
    answers = in_turns({name: (each, "score") for name, each in sides.items()}, 2, family="x")
    assert [name for name, _ in asked] == ["a", "b", "b", "a", "a", "b"]
    assert answers == {"a": [2, 3], "b": [5, 6]}


def test_score_is_the_fastest_call_over_the_fastest_call():
    calls = {"then": [1.0, 8.0, 10.0], "now": [9.0, 6.0, 2.0]}
    sides = {name: side(name, [{"seconds": [each]} for each in mine], []) for name, mine in calls.items()}
    assert score_figures(sides, 2) == {"score_over_then": 2 / 8, "score_seconds": 2.0}


def test_steps_are_medians_and_trl_is_asked_of_the_present_code():
    asked = []
    sides = {
        "then": side("then", [step([99.0]), step([8.0, 9.0, 10.0])], asked),
        # Forward in the first round, backward in the second: its own answer, TRL's twice, its own.
        "now": side("now", [step([99.0]), step([99.0]), step([18.0]), step([3.0, 1.0, 50.0])], asked),
    }
    figures = step_figures(sides, 1, trl=True)
    assert figures["step_over_then"] == 3 / 9
    assert figures["step_over_trl"] == 3 / 18
    assert asked == [
        ("then", "step"),
        ("now", "step"),
        ("now", "trl"),
        ("now", "trl"),
        ("now", "step"),
        ("then", "step"),
    ]


def test_traces_of_unequal_length_are_refused():
    sides = {name: side(name, [step([1.0], length)] * 2, []) for name, length in (("then", 64.0), ("now", 60.0))}
    with pytest.raises(SystemExit, match="unequally long"):
        step_figures(sides, 1, trl=False)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a commit is unpacked")
def test_a_commit_beside_itself(tmp_path):
    small = [
        "--family",
        "llava",
        "--image-tokens",
        "16",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--json",
        str(tmp_path / "f"),
    ]
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "against.py"), "HEAD", *small], check=True)
    figures = json.loads((tmp_path / "f").read_text())
    assert {"llava_score_over_then", "llava_step_over_then"} <= set(figures)
    assert figures["llava_trace_tokens_then"] == figures["llava_trace_tokens_now"] == 64
    assert figures["llava_update_tokens_then"] == figures["llava_update_tokens_now"]
