"""A benchmark that holds what a model was trained on is refused; training notes it, checkpoints keep it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from tests.bench.inputs import picture, records, write_preferences, write_records
from tests.tiny import tiny_model
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking
from zreward.cli.overlap import check_against
from zreward.common.errors import InputError
from zreward.data import save_records
from zreward.data.checking import check_records
from zreward.data.looks import looks_of
from zreward.data.seen import SEEN_FILE, seen_of
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by
from zreward.training.noted import note_prompts, note_training_data

pytest.importorskip("imagehash", reason="ImageHash is not installed: zreward[overlap]")


def run(model, suite, **options):
    notes = []
    request = Request({"m": "x"}, {"mine": suite}, asking=Asking(resamples=2), **options)
    return run_bench(request, lambda place: model, notes.append), notes


@pytest.fixture
def suite(tmp_path):
    return write_records(tmp_path)


def test_a_clean_suite_passes(suite):
    model = tiny_model()
    model.seen = seen_of(["another prompt"], [looks_of([picture(5000)])])
    report, notes = run(model, suite)
    assert not notes and report.document["overlap"] == [
        {"model": "m", "suite": "mine", "known": True, "prompts": 0, "pictures": 0}
    ]


def test_a_prompt_in_other_capitals(suite):
    model = tiny_model()
    model.seen = seen_of(["  A RED circle"], [looks_of([picture(5000)])])
    with pytest.raises(InputError, match=r"suite mine holds what m was trained on: 1 of 5 prompts \('a red circle'\)"):
        run(model, suite)


def test_a_recompressed_and_resized_copy(suite, tmp_path):
    buffer = io.BytesIO()
    Image.open(tmp_path / "1-2.png").resize((96, 72), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=70)
    model = tiny_model()
    model.seen = seen_of(["another prompt"], [looks_of([buffer.getvalue(), picture(5000)])])
    with pytest.raises(InputError, match=r"1 of 15 pictures \('r1-2'\).*--allow-overlap"):
        run(model, suite)
    report, notes = run(model, suite, allow_overlap=True)
    assert "m was trained on 1 of 15 pictures ('r1-2') of mine" in notes[0]
    assert report.document["overlap"][0]["pictures"] == 1
    written = report.write(tmp_path / "out")
    assert "m was trained on 1 of 15 pictures" in written[1].read_text()


def test_without_the_library_what_is_allowed_is_measured(suite, monkeypatch):
    model = tiny_model()
    model.seen = seen_of(["A red   circle"], [looks_of([picture(101)])])
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(InputError, match=r"pip install 'zreward\[overlap\]'"):
        run(model, suite)
    report, notes = run(model, suite, allow_overlap=True)
    assert "m was trained on 1 of 5 prompts" in notes[0] and "ImageHash is missing" in notes[0]
    assert report.document["overlap"][0]["pictures"] is None


def test_pairs_are_compared_as_their_pictures(tmp_path):
    path = write_preferences(tmp_path)
    model = tiny_model()
    model.seen = seen_of(["x"], [looks_of([picture(101)])])
    with pytest.raises(InputError, match="1 of 15 pictures"):
        run(model, path)


def test_a_checkpoint_that_says_nothing_is_told_so(suite):
    report, notes = run(tiny_model(), suite)
    assert notes == [
        "note: m: its checkpoint does not say what it was trained on; whether it knows the suites is unknown"
    ]
    assert report.document["overlap"][0]["known"] is False


def test_training_notes_it_once_and_checkpoints_keep_it(tmp_path):
    own = records(tmp_path)
    model = tiny_model()
    model.seen = seen_of(["of the starting model"], [looks_of([picture(9000)])])
    (tmp_path / "run").mkdir()
    before = note_prompts(model, own)
    assert seen_by(model).counts() == {"prompts": 6, "pictures": None}, "checkpoints on the way"
    note_training_data(tmp_path / "run", model, own, before)
    assert seen_by(model).counts() == {"prompts": 6, "pictures": 16}
    again = tiny_model()
    note_training_data(tmp_path / "run", again, [], None)  # a run that goes on
    assert seen_by(again).counts() == {"prompts": 6, "pictures": 16}
    model.save_pretrained(tmp_path / "checkpoint")
    meta = json.loads((tmp_path / "checkpoint" / "zreward.json").read_text())
    assert meta["training_data"] == {"prompts": 6, "pictures": 16}
    loaded = RewardModel.from_pretrained(tmp_path / "checkpoint")
    assert seen_by(loaded).counts() == {"prompts": 6, "pictures": 16}
    loaded.save_pretrained(tmp_path / "checkpoint")  # over itself
    with pytest.raises(InputError, match="holds what m was trained on: 5 of 5 prompts"):
        run(RewardModel.from_pretrained(tmp_path / "checkpoint"), save_records(own, tmp_path / "test.jsonl"))
    (tmp_path / "checkpoint" / SEEN_FILE).unlink()
    with pytest.raises(InputError, match=r"zreward.json names training_data.parquet, which is not there"):
        RewardModel.from_pretrained(tmp_path / "checkpoint")


def test_without_the_library_prompts_are_noted(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    model = tiny_model()
    (tmp_path / "run").mkdir()
    note_training_data(tmp_path / "run", model, records(tmp_path), None)
    assert seen_by(model).counts() == {"prompts": 5, "pictures": None}
    with pytest.raises(InputError, match="5 of 5 prompts"):
        run(model, write_records(tmp_path))


def test_data_against_data_and_against_a_checkpoint(tmp_path):
    own = records(tmp_path)
    train = save_records(own[:3], tmp_path / "train.jsonl")
    test = save_records(
        [replace(one, prompt=one.prompt.upper(), scores={}) for one in own[2:5]], tmp_path / "test.jsonl"
    )
    found = check_records(test)
    check_against(found, train)
    assert found.errors == [f"1 of 2 prompts ('A RED CIRCLE') and 1 of 3 pictures ('r0-2') are in {train} as well"]
    model = tiny_model()
    note_training_data(tmp_path, model, own[:3], None)
    model.save_pretrained(tmp_path / "checkpoint")
    found = check_records(test)
    check_against(found, tmp_path / "checkpoint")
    assert len(found.errors) == 1
    clean = check_records(save_records(own[3:6], tmp_path / "clean.jsonl"))
    check_against(clean, train)
    assert not clean.errors and clean.notes[-1] == f"none of 1 prompts and 3 pictures are in {train} as well"
    with pytest.raises(InputError, match="no checkpoint that says what it was trained on"):
        check_against(found, tmp_path)
