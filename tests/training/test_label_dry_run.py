"""`zreward label --dry-run`: what it checks and says, and that it neither writes nor samples."""

from __future__ import annotations

import json
import shutil

import pytest

from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.training.label_dry_run import check_inputs
from zreward.training.targets import LabelOptions, label

OPTIONS = LabelOptions(traces=2, shard_size=5)


@pytest.fixture(scope="module")
def labelled(tiny_data, tmp_path_factory):
    """Three shards of twelve records."""
    out = tmp_path_factory.mktemp("label") / "targets"
    teacher = RewardModel.from_pretrained(tiny_data["base"])
    return label(teacher, "base", load_records(tiny_data["pool"]), out, OPTIONS)


@pytest.fixture
def check(tiny_data, monkeypatch):
    """check(out, options, teacher=...) -> the sentences; sampling a trace fails the test."""

    def sample(*_, **__):
        raise AssertionError("a trace was sampled")

    monkeypatch.setattr(RewardModel, "judge", sample)
    monkeypatch.setattr(RewardModel, "score_opened", sample)

    def run(out, options=OPTIONS, teacher=None, data="pool", **more):
        return check_inputs(str(teacher or tiny_data["base"]), tiny_data[data], out, options, **more)

    return run


def test_a_new_folder_is_said_to_be_free_and_is_not_made(check, tmp_path, tiny_data):
    lines = check(tmp_path / "new")
    assert lines == [
        f"{tiny_data['pool']}: 12 records, every picture opened",
        f"teacher {tiny_data['base']}: loads, and labels alignment, realism, aesthetics, plausibility",
        "to label: 12 images on 4 dimensions, 2 traces for each",
        f"{tmp_path / 'new'}: free, and can be written",
    ]
    assert not list(tmp_path.iterdir())
    one = LabelOptions(reasoning=False, dimensions=("realism",))
    assert check(tmp_path / "new", one)[2] == "to label: 12 images on 1 dimensions, without reasoning"


def test_what_a_resume_would_find_is_said(check, labelled, tmp_path):
    assert check(labelled)[-1] == f"{labelled}: all 3 shards are there and whole: nothing to do"
    part = tmp_path / "part"
    shutil.copytree(labelled, part)
    manifest = json.loads((part / "manifest.json").read_text())
    lines = manifest.pop("shards")
    (part / "manifest.json").write_text(json.dumps(manifest))
    (part / "shards.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    (part / "targets-00002.parquet").unlink()
    assert check(part)[-1] == f"{part}: 2 of 3 shards are there and whole; the rest is to be made"
    (part / "targets-00001.parquet").write_bytes(b"")
    before = {path: path.read_bytes() for path in part.iterdir()}
    said = check(part)[-1]
    assert "1 of 3 shards" in said and "1 of them again because they are damaged (targets-00001.parquet)" in said
    assert {path: path.read_bytes() for path in part.iterdir()} == before


def test_what_labelling_would_refuse_is_refused(check, labelled, tiny_data, tmp_path):
    with pytest.raises(InputError, match="different: options.traces: 2, now 1"):
        check(labelled, LabelOptions(shard_size=5))
    with pytest.raises(InputError, match="different: records: .*count: 12, now 9"):
        check(labelled, data="dev")
    with pytest.raises(InputError, match="count: 12, now 9"):  # also where the teacher is not loaded
        check(labelled, data="dev", teacher="nobody/at-all")
    with pytest.raises(InputError, match="unknown dimension 'beauty'"):
        check(tmp_path / "new", LabelOptions(dimensions=("beauty",)))
    with pytest.raises(InputError, match="no such checkpoint folder"):
        check(tmp_path / "new", teacher=tmp_path / "nobody")
    with pytest.raises(InputError, match="no record of split 'x'"):
        check(tmp_path / "new", split="x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty and holds no manifest.json"):
        check(tmp_path / "other")
    with pytest.raises(InputError, match="notes.txt cannot be written to; choose another --out"):
        check(tmp_path / "other" / "notes.txt" / "targets")


def test_a_teacher_that_is_not_here_is_not_asked(check, tmp_path):
    lines = check(tmp_path / "new", teacher="nobody/at-all")
    assert lines[1].startswith("teacher nobody/at-all: not loaded: large, or not on this machine")
    assert lines[2] == "to label: 12 images, 2 traces for each"
