"""`zreward evaluate` on preferences: what it prints and writes, where ties begin, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

from tests.commands.inputs import complains
from tests.tiny import noise_pictures
from zreward.data import Preference, load_preferences, save_preferences
from zreward.evaluation.preference_prediction import predict_preferences
from zreward.models.reward_model import RewardModel

PICTURES = noise_pictures(8)


@pytest.fixture
def votes(tmp_path):
    """Three pairs of two prompts in votes.jsonl, two others in dev.jsonl."""
    save_preferences(
        [
            Preference(
                "a red circle", (PICTURES[0], PICTURES[1]), {"realism": {"r": "a", "s": "a", "t": "b"}}, split="test"
            ),
            Preference("a red circle", (PICTURES[1], PICTURES[2]), {"realism": {"r": "b", "s": "tie"}}, split="test"),
            Preference("a blue square", (PICTURES[3], PICTURES[4]), {"alignment": {"a": 1}}),
        ],
        tmp_path / "votes.jsonl",
    )
    save_preferences(
        [Preference(f"a green cross {n}", (PICTURES[5], PICTURES[6 + n]), {"realism": "tie"}) for n in (0, 1)],
        tmp_path / "dev.jsonl",
    )
    return tmp_path / "votes.jsonl"


def test_rows_are_printed_and_written(zreward, votes, tmp_path):
    written = ("--json", tmp_path / "m.json", "--csv", tmp_path / "m.csv")
    code, out, _ = zreward("evaluate", "world:small", "--data", votes, "--dev", tmp_path / "dev.jsonl", *written)
    assert code == 0
    rows = json.loads((tmp_path / "m.json").read_text())
    assert [(row["dimension"], row["n_pairs"], row["n_prompts"]) for row in rows] == [
        ("alignment", 1, 1),
        ("realism", 2, 1),
        ("all", 3, 2),
    ]
    table = list(csv.DictReader((tmp_path / "m.csv").open()))
    assert table[1]["preference_ece"] == repr(rows[1]["preference_ece"]) and rows[1]["human_ceiling"] == 0.0
    assert "accuracy" in out and f"{rows[2]['preference_nll']:.3f}" in out and "95 %" in out
    # Calling both pairs of dev a tie is right, up to the larger of their gaps; nobody voted on alignment there.
    model = RewardModel.from_pretrained("world:small")
    gaps = predict_preferences(model, load_preferences(tmp_path / "dev.jsonl"), ["realism"], progress=False).gap
    assert rows[1]["tie_threshold"] == pytest.approx(gaps.abs().max().item(), abs=1e-5)
    assert rows[0]["tie_threshold"] is None and rows[0]["accuracy_with_ties"] is None


def test_a_split_a_dimension_and_a_threshold(zreward, votes):
    chosen = ("--split", "test", "--dimensions", "realism", "--tie-threshold", "9", "--resamples", "0")
    code, out, _ = zreward("evaluate", "world:small", "--data", votes, *chosen, "--json")
    row, pooled = json.loads(out)
    assert code == 0 and (row["dimension"], row["n_pairs"]) == ("realism", 2)
    assert row["accuracy_with_ties"] == 0.0  # everything is a tie; of one vote for b and one for a tie, b is the winner
    assert "accuracy_low" not in row and pooled["tie_threshold"] == 9


def test_traces_are_sampled_and_counted(zreward, votes):
    reasoning = ("--reasoning", "--traces", "2", "--seed", "3", "--split", "test", "--resamples", "0", "--json")
    code, out, _ = zreward("evaluate", "world:small", "--data", votes, *reasoning)
    assert code == 0 and json.loads(out)[0]["output_tokens"] > 1


def test_what_does_not_go_together_is_refused(zreward, votes, picture, tmp_path):
    def evaluate(*more, data=votes):
        return zreward("evaluate", "world:small", "--data", data, *more)

    complains(evaluate("--html", tmp_path / "page.html"), "--html has no effect on preferences")
    complains(evaluate("--dev", votes), "votes.jsonl and", "in both train and test")
    complains(evaluate("--dev", tmp_path / "dev.jsonl", "--tie-threshold", "1"), "both say where a tie begins")
    complains(evaluate("--dev-split", "x"), "--dev-split x goes with --dev")
    complains(evaluate("--dimensions", "aesthetics"), "no preference has votes on aesthetics")
    complains(
        evaluate("--dev", tmp_path / "dev.jsonl", "--dimensions", "alignment"), "dev.jsonl: no preference has votes on"
    )
    rated = tmp_path / "rated.jsonl"
    rated.write_text(json.dumps({"prompt": "a red circle", "image": str(picture), "scores": {"realism": 3}}) + "\n")
    complains(evaluate("--tie-threshold", "1", data=rated), "--tie-threshold has no effect on records")
