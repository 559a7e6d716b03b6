"""`zreward calibrate`: written into the checkpoint, used by `evaluate`, taken out again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands.inputs import complains, records, row
from zreward.models.checkpoint import META_FILE
from zreward.models.reward_model import RewardModel


@pytest.fixture
def rated(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for n in range(24):
        picture = tmp_path / f"{n}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture)
        scores = {"realism": dict(zip("uvw", rng.choice([1.0, 2.0, 4.0, 5.0], 3).tolist(), strict=True))}
        rows.append(row(picture, prompt=f"a red circle {n // 4}", scores=scores))
    return records(tmp_path / "rated.jsonl", *rows)


@pytest.fixture
def folder(tmp_path):
    RewardModel.from_pretrained("world:small").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_fit_is_stored_shown_used_and_removed(zreward, folder, rated, tmp_path):
    before = (folder / META_FILE).read_text()
    code, _, _ = zreward("evaluate", folder, "--data", rated, "--json", tmp_path / "plain.json")
    code, out, _ = zreward("calibrate", folder, "--data", rated, "--kind", "ordinal", "--json", tmp_path / "c.json")
    assert code == 0 and "after" in out and "realism: temperature" in out and "shift" in out
    table = {(r["model"], r["dimension"]): r for r in json.loads((tmp_path / "c.json").read_text())}
    assert set(table) == {("before", "realism"), ("after", "realism")}
    stored = json.loads((folder / META_FILE).read_text())
    assert stored["schema_version"] == 3 and set(stored["calibration"]["direct"]["dimensions"]) == {"realism"}
    page = tmp_path / "page.html"
    code, out, _ = zreward(
        "evaluate", folder, "--data", rated, "--calibration", "--json", tmp_path / "m.json", "--html", page
    )
    assert code == 0 and "80 %" in out and "pair ECE" in out and "coverage" in page.read_text()
    (plain, _), (found, _) = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "m"))
    assert found["nll"] < plain["nll"] and found["n_pairs"] == plain["n_pairs"] and 0 < found["coverage_80"] < 1
    assert zreward("calibrate", folder, "--remove")[0] == 0
    assert json.loads((folder / META_FILE).read_text()) == json.loads(before)


def test_what_cannot_be_is_told_before_the_model_runs(zreward, folder, rated, tmp_path):
    complains(zreward("calibrate", folder), "--data FILE is missing")
    complains(zreward("calibrate", folder, "--data", rated, "--kind", "platt"), "platt", "temperature, ordinal")
    complains(zreward("calibrate", folder, "--remove"), "no calibration of direct scores")
    complains(zreward("calibrate", folder, "--remove", "--data", rated), "--data has no effect with --remove")
    complains(zreward("calibrate", tmp_path / "none", "--data", rated), "none")
