"""`zreward score --data --dry-run`: what it checks and says, and that it neither writes nor scores."""

from __future__ import annotations

import json

import pytest

from tests.tiny import noise_pictures, tiny_model
from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.writing import save_records
from zreward.inference import bulk, bulk_dry_run
from zreward.inference.bulk import score_data
from zreward.inference.bulk_dry_run import check_inputs
from zreward.models.reward_model import RewardModel


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "judge"
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    return save_records([Record(f"picture {n}", p) for n, p in enumerate(noise_pictures(6))], tmp_path / "data.jsonl")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(bulk, "SHARD", 4)
    monkeypatch.setattr(bulk_dry_run, "SHARD", 4)


def cut_off(monkeypatch, judge, data, out) -> None:
    """Score the first shard of two."""
    original, seen = RewardModel.score, []

    def failing(self, *rest):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RewardModel, "score", failing)
        with pytest.raises(KeyboardInterrupt):
            score_data(RewardModel.from_pretrained(judge), data, out)


def test_it_says_what_there_is_and_writes_nothing(judge, data, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(RewardModel, "score", lambda *_: pytest.fail("something was scored"))
    assert check_inputs(str(judge), data, out) == [
        f"{data}: 6 rows; every picture opened",
        f"model {judge}: loads, and scores alignment, realism, aesthetics, plausibility",
        f"{out}: free, and can be written",
    ]
    assert "not loaded: large, or not on this machine" in check_inputs("nobody/at-all", data, out)[1]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_resume_would_find_is_said(judge, data, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    cut_off(monkeypatch, judge, data, out)
    parts = tmp_path / "scores.parquet.parts"
    assert check_inputs(str(judge), data, out)[-1] == (
        f"{parts}: 1 of 2 shards are there and whole; the rest is to be made"
    )
    (parts / "part-000000.parquet").write_bytes(b"")
    assert "0 of 2 shards are there" in check_inputs(str(judge), data, out)[-1]
    with pytest.raises(InputError, match=r"another run .different: dimensions"):
        check_inputs(str(judge), data, out, ["realism"])
    score_data(RewardModel.from_pretrained(judge), data, out)
    assert check_inputs(str(judge), data, out)[-1] == f"{out}: these scores are there and whole: nothing to do"
    with pytest.raises(InputError, match="with other scores .different: dimensions"):
        check_inputs(str(judge), data, out, ["realism"])
    out.write_bytes(b"")
    with pytest.raises(InputError, match="no whole Parquet file .it is empty"):
        check_inputs(str(judge), data, out)


def test_what_scoring_would_refuse_is_refused(judge, data, tmp_path):
    out = tmp_path / "scores.parquet"
    lines = data.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"image": "gone.png"})
    data.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"data\.jsonl:3: .*gone\.png: no such image file"):
        check_inputs(str(judge), data, out)
    assert check_inputs(str(judge), data, out, skip_bad=True)[0] == (
        f"{data}: 6 rows, 1 of them bad, which get no score; every picture opened"
    )
    with pytest.raises(InputError, match="unknown dimension 'beauty'"):
        check_inputs(str(judge), data, out, ["beauty"])
    with pytest.raises(InputError, match="no such checkpoint folder"):
        check_inputs(str(tmp_path / "nobody"), data, out)
    with pytest.raises(InputError, match="cannot be written to; choose another --out"):
        check_inputs(str(judge), data, data / "scores.parquet")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="it is empty"):
        check_inputs(str(judge), tmp_path / "empty.jsonl", out)
