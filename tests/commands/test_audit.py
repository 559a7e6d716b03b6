"""`zreward audit`: JSON and page, exit code 1 with a list of what failed, bad input before the model is asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands.inputs import complains, records, row
from zreward.models.reward_model import RewardModel


@pytest.fixture
def data(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for n in range(5):
        picture = tmp_path / f"{n}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture)
        rows.append(row(picture, prompt=f"a red circle {n}", split="dev" if n else "test"))
    return records(tmp_path / "records.jsonl", *rows)


def thresholds(path, **sections):
    path.write_text(json.dumps(sections))
    return path


def test_all_checks_a_page_and_a_file(zreward, data, tmp_path):
    out = tmp_path / "card"
    lax = thresholds(
        tmp_path / "lax.yaml",
        monotonicity={"least_fall": 0, "most_rise": 4},
        prompts={"edit_mean": 4, "rise": 4},
        invariance={"stored_mean": 4, "mean": 4, "p95": 4, "moved": 1},
        leakage={"share": 1e6, "least_own": 0, "least_seen": 0},
    )
    code, said, _ = zreward(
        "audit", "world:small", "--data", data, "--split", "dev", "--pictures", 2, "--out", out, "--thresholds", lax
    )
    found = json.loads((out / "audit.json").read_text())
    names = [check["check"] for check in found["checks"]]
    assert names == ["invariance", "monotonicity", "prompts", "sensitivity", "leakage", "unlike"]
    assert found["settings"]["pictures"] == 2 and found["thresholds"]["prompts"]["rise"] == 4
    assert code == (0 if found["passed"] else 1) and found["passed"] == (not found["failures"])
    page = (out / "audit.html").read_text()
    assert "Robustness card" in page and page.count("data:image/png") > 30 and "Growing defects" in page
    assert "invariance: " in said


def test_what_exceeds_a_threshold_is_listed_with_exit_code_1(zreward, data, tmp_path):
    """Wrong program: exit code 0, or 2 as for bad input."""
    strict = thresholds(tmp_path / "strict.yaml", invariance={"mean": 0})
    told = ("audit", "world:small", "--data", data, "--checks", "invariance", "--thresholds", strict)
    code, said, complaint = zreward(*told, "--out", tmp_path / "card", "--json")
    assert code == 1 and json.loads(said)["passed"] is False
    assert "FAILED invariance: JPEG, quality 95, realism: moves by" in complaint
    easy = thresholds(tmp_path / "easy.yaml", invariance={"mean": 4, "p95": 4, "moved": 1})
    code, said, complaint = zreward(*told[:-1], easy, "--out", tmp_path / "again")
    assert code == 0 and "FAILED" not in complaint


def test_bad_input_is_told_before_the_model_is_asked(zreward, data, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the model was asked first")

    monkeypatch.setattr(RewardModel, "score", never)
    told = ("audit", "world:small", "--data", data, "--out", tmp_path / "card")
    wrong = thresholds(tmp_path / "wrong.yaml", invariance={"men": 1})
    complains(zreward(*told, "--thresholds", wrong), "unknown key invariance.men", "did you mean invariance.mean")
    less = thresholds(tmp_path / "less.yaml", invariance={"mean": -1})
    complains(zreward(*told, "--thresholds", less), "invariance.mean is -1")
    complains(zreward(*told, "--checks", "blur"), "blur", "invariance, monotonicity")
    complains(zreward(*told, "--split", "train"), "no record of split 'train'")
    complains(zreward("audit", "endpoint:http://x/v1#y", *told[2:]), "an endpoint gives no gradients")
    complains(zreward("audit", "world:small", "--data", tmp_path / "none.jsonl", *told[4:]), "none.jsonl")
    assert not (tmp_path / "card").exists()
