"""Scoring a data set: the scores of `score`, resumed without loss or repetition, bad rows named."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward import bulk
from zreward.bulk import score_data
from zreward.data import Record
from zreward.data.writing import save_records
from zreward.errors import InputError


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model())


@pytest.fixture
def records(tmp_path) -> list[Record]:
    return [Record(f"picture {n}", picture, {"realism": 3.0}) for n, picture in enumerate(noise_pictures(11))]


@pytest.fixture
def data(records, tmp_path):
    return save_records(records, tmp_path / "data.parquet")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(bulk, "SHARD", 4)


def test_scores_are_those_of_score(model, data, records, tmp_path):
    assert score_data(model, data, tmp_path / "scores.parquet", batch_size=3) == 11
    table = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    expected = model.score([record.image for record in records], [record.prompt for record in records])
    assert table["row"] == list(range(11)) and table["prompt"] == [record.prompt for record in records]
    for d, name in enumerate(expected.dimensions):
        assert torch.allclose(torch.tensor(table[f"{name}_probs"]), expected.probs[:, d], atol=1e-5)
        assert table[f"{name}_mean"] == pytest.approx(expected.mean[:, d].tolist(), abs=1e-4)
    assert not (tmp_path / "scores.parquet.parts").exists()


def test_a_run_that_was_cut_off_goes_on_after_its_last_whole_shard(model, data, tmp_path, monkeypatch):
    score_data(model, data, tmp_path / "whole.parquet")
    original, calls = type(model).score, []

    def failing(self, images, *rest):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, images, *rest)

    monkeypatch.setattr(type(model), "score", failing)
    with pytest.raises(KeyboardInterrupt):
        score_data(model, data, tmp_path / "cut.parquet")
    assert len(list((tmp_path / "cut.parquet.parts").glob("part-*.parquet"))) == 2
    score_data(model, data, tmp_path / "cut.parquet")
    assert calls == [4, 4, 3, 3]  # the first two shards were not scored again
    assert pq.read_table(tmp_path / "cut.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))


def test_parts_of_another_run_are_not_gone_on_with(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "_join", lambda *_: None)
    score_data(model, data, tmp_path / "scores.parquet")
    with pytest.raises(InputError, match=r"another run \(different: dimensions: .*, now \[\"realism\"\]\)"):
        score_data(model, data, tmp_path / "scores.parquet", ["realism"])


def test_a_bad_row_is_named_or_keeps_its_place(model, records, tmp_path):
    data = save_records(records[:3], tmp_path / "data.jsonl")
    lines = data.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"image": "gone.png"})
    data.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"data\.jsonl:2: .*gone\.png: no such image file\ncorrect it"):
        score_data(model, data, tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="different: skip_bad"):
        score_data(model, data, tmp_path / "scores.parquet", skip_bad=True)
    score_data(model, data, tmp_path / "skipped.parquet", skip_bad=True)
    table = pq.read_table(tmp_path / "skipped.parquet").to_pydict()
    assert table["row"] == [1, 2, 3]
    assert "no such image file" in table["error"][1] and table["realism_mean"][1] is None
    assert table["error"][0] is None and table["realism_mean"][0] is not None


def test_targets_that_cannot_be(model, data, tmp_path):
    (tmp_path / "there.parquet").write_bytes(b"keep")
    with pytest.raises(InputError, match="there already"):
        score_data(model, data, tmp_path / "there.parquet")
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        score_data(model, data, tmp_path / "scores.csv")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="it is empty"):
        score_data(model, tmp_path / "empty.jsonl", tmp_path / "scores.parquet")
