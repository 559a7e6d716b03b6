"""Scoring a data set: the scores of `score`, resumed without loss or repetition, bad rows named."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.serving.running import png
from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.writing import save_records
from zreward.inference import bulk
from zreward.inference.bulk import score_data
from zreward.models.pixels import ResolutionPolicy


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


def cut_off(monkeypatch, model, data, out, calls: int = 2) -> None:
    """Score until the given call of the model, which is interrupted."""
    original, seen = type(model).score, []

    def failing(self, *rest):
        seen.append(1)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "score", failing)
        with pytest.raises(KeyboardInterrupt):
            score_data(model, data, out)


def test_parts_of_another_run_are_not_gone_on_with(model, data, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    cut_off(monkeypatch, model, data, out)
    with pytest.raises(InputError, match=r"another run \(different: dimensions: .*, now \[\"realism\"\]\); delete it"):
        score_data(model, data, out, ["realism"])
    monkeypatch.setattr(model, "resolution", ResolutionPolicy(longest_side=16))
    with pytest.raises(InputError, match=r"model.resolution.longest_side: none, now 16"):
        score_data(model, data, out)


def folder_of_pictures(tmp_path, shade: int):
    """Eight records that name one picture file each."""
    records = []
    for n in range(8):
        Image.new("RGB", (32, 32), (n, shade, 0)).save(tmp_path / f"{n}.bmp")
        records.append(Record("a red circle", str(tmp_path / f"{n}.bmp")))
    return save_records(records, tmp_path / "data.jsonl")


def test_pictures_that_changed_under_their_names_are_refused(model, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    data = folder_of_pictures(tmp_path, 0)
    cut_off(monkeypatch, model, data, out)
    folder_of_pictures(tmp_path, 7)
    with pytest.raises(InputError, match=r"part-000000.parquet was made from other rows or pictures"):
        score_data(model, data, out)
    folder_of_pictures(tmp_path, 0)
    assert score_data(model, data, out, batch_size=3) == 8
    folder_of_pictures(tmp_path, 7)
    with pytest.raises(InputError, match=r"is there already, with other scores \(different: records"):
        score_data(model, data, out)


def test_a_hugging_face_data_set_counts_by_its_content(model, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def data(prompt):
        images = [{"bytes": png(picture), "path": None} for picture in noise_pictures(8)]
        return datasets.Dataset.from_dict({"prompt": [prompt] * 8, "image": images})

    out = tmp_path / "scores.parquet"
    cut_off(monkeypatch, model, data("one"), out)
    with pytest.raises(InputError, match="other rows or pictures"):
        score_data(model, data("two"), out)
    assert score_data(model, data("one"), out) == 8


def test_rows_that_are_gone_leave_no_scores(model, data, records, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    cut_off(monkeypatch, model, data, out, calls=3)
    save_records(records[:4], data)
    assert score_data(model, data, out) == pq.read_metadata(out).num_rows == 4


def test_finished_scores_are_left_alone(model, data, tmp_path, capsys):
    out = tmp_path / "scores.parquet"
    score_data(model, data, out)
    before = out.stat().st_mtime_ns
    (tmp_path / "scores.parquet.parts").mkdir()  # as a kill between the last two steps leaves it
    assert score_data(model, data, out, batch_size=3) == 11
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert out.stat().st_mtime_ns == before and not (tmp_path / "scores.parquet.parts").exists()
    with pytest.raises(InputError, match="with other scores .different: dimensions"):
        score_data(model, data, out, ["realism"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_finished_scores_that_are_damaged_are_named(model, data, tmp_path, damage):
    out = tmp_path / "scores.parquet"
    score_data(model, data, out)
    content = out.read_bytes()
    at = content.index(b"picture 7")  # a prompt, in the data itself
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    out.write_bytes({"cut": content[: len(content) // 2], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"scores.parquet is there already, and no whole Parquet file .*or delete it"):
        score_data(model, data, out)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_damaged_shard_is_made_again(model, data, tmp_path, monkeypatch, capsys, damage):
    out = tmp_path / "scores.parquet"
    cut_off(monkeypatch, model, data, out, calls=3)
    shard = tmp_path / "scores.parquet.parts" / "part-000001.parquet"
    content = shard.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        shard.unlink()
    else:
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        shard.write_bytes({"cut": content[:half], "flipped": flipped, "empty": b""}[damage])
    score_data(model, data, out)
    assert "part-000001.parquet is" in capsys.readouterr().err
    score_data(model, data, tmp_path / "straight.parquet")
    assert out.read_bytes() == (tmp_path / "straight.parquet").read_bytes()


def test_pictures_of_similar_size_share_a_batch_and_rows_keep_their_order(model, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "SHARD", 6)
    sizes = [16, 96, 24, 64, 32, 80]
    pictures = [Image.effect_noise((size, size), 80).convert("RGB") for size in sizes]
    data = save_records([Record(f"picture {n}", p) for n, p in enumerate(pictures)], tmp_path / "d.parquet")
    seen, original = [], type(model).score

    def spy(self, images, *rest):
        seen.append([image.width for image in images])
        return original(self, images, *rest)

    monkeypatch.setattr(type(model), "score", spy)
    score_data(model, data, tmp_path / "s.parquet", batch_size=1)
    assert seen == [[96, 80], [64, 32], [24, 16]]
    table = pq.read_table(tmp_path / "s.parquet").to_pydict()
    assert table["prompt"] == [f"picture {n}" for n in range(6)]
    alone = model.score(pictures, [f"picture {n}" for n in range(6)]).mean[:, 0].tolist()
    assert table["alignment_mean"] == pytest.approx(alone, abs=1e-4)


def test_a_bad_row_is_named_or_keeps_its_place(model, records, tmp_path):
    data = save_records(records[:3], tmp_path / "data.jsonl")
    lines = data.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"image": "gone.png"})
    data.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"data\.jsonl:2: .*gone\.png: no such image file; check the path\ncorrect it"):
        score_data(model, data, tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="different: skip_bad"):
        score_data(model, data, tmp_path / "scores.parquet", skip_bad=True)
    score_data(model, data, tmp_path / "skipped.parquet", skip_bad=True)
    table = pq.read_table(tmp_path / "skipped.parquet").to_pydict()
    assert table["row"] == [1, 2, 3]
    assert "no such image file" in table["error"][1] and table["realism_mean"][1] is None
    assert table["error"][0] is None and table["realism_mean"][0] is not None


def test_a_row_that_the_model_refuses_is_named_or_keeps_its_place(model, records, tmp_path):
    """A prompt beyond the model's positions is seen by the model alone."""
    records = [*records[:5], replace(records[5], prompt="red " * 5000), *records[6:]]
    data = save_records(records, tmp_path / "data.parquet")
    with pytest.raises(InputError, match=r"data\.parquet:row 5: prompt 'red .*shorten its texts\ncorrect it"):
        score_data(model, data, tmp_path / "scores.parquet")
    score_data(model, data, tmp_path / "skipped.parquet", skip_bad=True)
    table = pq.read_table(tmp_path / "skipped.parquet").to_pydict()
    assert [n for n, error in enumerate(table["error"]) if error] == [5]
    good = [n for n in range(11) if n != 5]
    expected = model.score([records[n].image for n in good], [records[n].prompt for n in good]).mean[:, 0]
    assert [table["alignment_mean"][n] for n in good] == pytest.approx(expected.tolist(), abs=1e-4)


def test_targets_that_cannot_be(model, data, tmp_path):
    (tmp_path / "there.parquet").write_bytes(b"keep")
    with pytest.raises(InputError, match="there already"):
        score_data(model, data, tmp_path / "there.parquet")
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        score_data(model, data, tmp_path / "scores.csv")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="it is empty"):
        score_data(model, tmp_path / "empty.jsonl", tmp_path / "scores.parquet")
