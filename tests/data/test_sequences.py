"""Records of several pictures, of none, and with answers: fields, files, the table on disk, fingerprints, splits."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import noise_pictures
from zreward.cli.overlap import check_against
from zreward.common.errors import InputError
from zreward.data import Record, check_disjoint, load_records, open_records, save_records
from zreward.data.checking import check_records
from zreward.data.fingerprint import records_fingerprint
from zreward.data.preference_files import holds_preferences
from zreward.data.sources import Fields, Source
from zreward.data.splits import split_by_prompt
from zreward.training.noted import note_prompts

LONG = "the sky is blue because air scatters blue light more than red light, and so much of it comes from all sides"


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


A, B, C = (png(picture) for picture in noise_pictures(3))
PLAIN = Record("a red cube", A, {"quality": {"r1": 4.0}}, id="plain")
EDIT = Record("make it blue", images=(A, B), scores={"quality": 3.0}, id="edit")
ANSWER = Record("why?", answer="Because.", scores={"quality": 5.0}, id="answer")
SEEN = Record("what is it?", C, answer="a cube", id="seen")
MIXED = [PLAIN, EDIT, ANSWER, SEEN]


def as_files(record: Record, folder: Path) -> Record:
    """The same with pictures that are files."""
    paths = [folder / f"{record.id}-{n}.png" for n in range(len(record.pictures))]
    for path, content in zip(paths, record.pictures, strict=True):
        path.write_bytes(content)
    if len(paths) > 1:
        return replace(record, images=tuple(map(str, paths)))
    return replace(record, image=str(paths[0])) if paths else record


# --- fields


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "missing 'image'; a record has an image, images, or an answer"),
        ({"image": A, "images": [A, B]}, "both 'image' and 'images'"),
        ({"images": [A]}, "images holds 1 picture; expected 2 to 8, or 'image' for one"),
        ({"images": [A] * 9}, "images holds 9 pictures; expected 2 to 8"),
        ({"images": A}, "expected a list of pictures"),
        ({"answer": " "}, "answer is empty or blank"),
        ({"answer": 3}, "answer is a int"),
        ({"answer": "a" * 1_000_001}, "1,000,001 letters"),
    ],
)
def test_fields_that_do_not_go_together(fields, match):
    with pytest.raises(InputError, match=match):
        Record("p", **fields)


def test_what_a_record_shows():
    assert [one.pictures for one in MIXED] == [(A,), (A, B), (), (C,)]
    assert [one.describe() for one in MIXED] == ["1 picture", "2 pictures", "an answer", "1 picture and an answer"]
    assert PLAIN.only_image("bench") == A
    for other in MIXED[1:]:
        with pytest.raises(
            InputError, match=f"record {other.id}: .*; bench takes records of one picture and no answer"
        ):
            other.only_image("bench")
    assert EDIT.open_image().tobytes() == Image.open(io.BytesIO(B)).convert("RGB").tobytes()
    with pytest.raises(InputError, match="record answer shows no picture"):
        ANSWER.open_image()


# --- files


@pytest.mark.parametrize("order", [MIXED, MIXED[::-1], [PLAIN] * 1, MIXED[1:2], MIXED[2:3]])
@pytest.mark.parametrize("form", ["paths.jsonl", "embedded.parquet", "paths.parquet"])
def test_mixed_records_come_back_from_every_file(tmp_path, order, form):
    records = [as_files(one, tmp_path) if form.startswith("paths") else one for one in order]
    path = save_records(records, tmp_path / form)
    assert load_records(path) == records
    assert [*open_records(path)] == records == [*open_records(path)]
    assert not holds_preferences(path)


def test_a_file_widens_where_its_first_wide_record_comes(tmp_path, monkeypatch):
    """Rows before it keep all they had; a file without one has the columns of older versions."""
    import pyarrow.parquet as pq

    monkeypatch.setattr("zreward.data.writing.ROW_GROUP", 2)
    plain = [replace(PLAIN, id=str(n)) for n in range(5)]
    assert not {"images", "answer"} & set(pq.read_schema(save_records(plain, tmp_path / "a.parquet")).names)
    path = save_records(iter([*plain, EDIT, ANSWER]), tmp_path / "b.parquet")
    assert load_records(path) == [*plain, EDIT, ANSWER]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["images"] == {"feature": {"_type": "Image"}, "_type": "List"}


def test_pictures_in_memory_are_written_beside_a_jsonl_file(tmp_path):
    path = save_records([EDIT], tmp_path / "records.jsonl")
    row = json.loads(path.read_text())
    assert row["images"] == ["images/records-000000.png", "images/records-000000-1.png"]
    assert [Path(one).read_bytes() for one in load_records(path)[0].images] == [A, B]


def test_an_unrated_edit_is_no_preference(tmp_path):
    path = save_records([replace(EDIT, scores={})], tmp_path / "pool.jsonl")
    assert not holds_preferences(path) and load_records(path)[0].scores == {}
    (tmp_path / "pair.jsonl").write_text(json.dumps({"prompt": "p", "images": ["a.png", "b.png"], "votes": "a"}))
    assert holds_preferences(tmp_path / "pair.jsonl")


def test_a_broken_second_picture_is_told_and_read_again_when_it_is_mended(tmp_path):
    edit = as_files(EDIT, tmp_path)
    path = save_records([as_files(PLAIN, tmp_path), edit], tmp_path / "records.jsonl")
    Path(edit.images[1]).write_bytes(B[:60])
    with pytest.raises(InputError, match="edit-1.png"):
        open_records(path)
    assert len(open_records(path, skip_bad=True)) == 1
    Path(edit.images[1]).write_bytes(B)
    assert len(open_records(path, skip_bad=True)) == 2
    Path(edit.images[1]).write_bytes(C)
    found = open_records(path, skip_bad=True)
    assert records_fingerprint(found) == records_fingerprint(load_records(path))


def test_columns_of_another_layout_are_not_read_as_ours(tmp_path):
    """A set that calls its picture `img` may call anything `answer` and `images`."""
    row = {"text": "p", "img": "a.png", "answer": 42, "images": "x"}
    (tmp_path / "set.jsonl").write_text(json.dumps(row))
    (tmp_path / "a.png").write_bytes(A)
    (record,) = load_records(Source(str(tmp_path / "set.jsonl"), Fields("text", "img")))
    assert (record.prompt, record.answer, len(record.pictures)) == ("p", None, 1)


# --- fingerprints, splits, what was seen


def test_fingerprints_cover_answers_and_all_pictures_in_order(tmp_path):
    edits = [EDIT, replace(EDIT, images=(B, A)), replace(EDIT, images=(A, C)), replace(EDIT, images=(A, B, C))]
    others = [
        *edits,
        ANSWER,
        replace(ANSWER, answer="No."),
        SEEN,
        replace(SEEN, answer=None),
        replace(EDIT, answer="x"),
    ]
    prints = [records_fingerprint([replace(one, prompt="p")]) for one in others]
    assert len(set(prints)) == len(prints)
    for one in (PLAIN, EDIT, ANSWER, SEEN):
        kept = open_records(save_records([one], tmp_path / f"{one.id}.parquet"))
        assert records_fingerprint(kept, ratings=True) == records_fingerprint([one], ratings=True)


def test_a_plain_record_has_the_fingerprint_of_older_versions():
    facts = json.dumps(["a red cube", hashlib.sha256(A).hexdigest()], sort_keys=True).encode()
    assert records_fingerprint([PLAIN]) == hashlib.sha256(hashlib.sha256(facts).digest()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        (EDIT, Record("other", B), "1 image is .*edit of 'make it blue' = an image in memory"),
        (PLAIN, Record("other", images=(C, A)), "1 image is"),
        (Record("p", answer=LONG), Record("q", answer=f" {LONG.upper()}"), "1 answer is .* in both train and test"),
        (Record("p", answer="yes"), Record("q", answer="yes"), None),  # short answers are the same by chance
        (EDIT, ANSWER, None),
    ],
)
def test_what_train_and_test_may_not_share(tmp_path, train, test, match):
    kept = [open_records(save_records([one], tmp_path / f"{n}.parquet")) for n, one in enumerate((train, test))]
    for sides in (([train], [test]), kept):
        if match is None:
            check_disjoint(*sides)
        else:
            with pytest.raises(InputError, match=match):
                check_disjoint(*sides)


def test_what_shares_a_picture_or_a_long_answer_stays_in_one_split():
    linked = [EDIT, Record("1", C), Record("2", images=(B, C)), Record("3", answer=LONG), Record("4", answer=LONG)]
    free = [Record(f"free {n}", answer="yes") for n in range(8)]
    dealt = split_by_prompt([*linked, *free], {"train": 0.5, "test": 0.5})
    home = {record.prompt: name for name, part in dealt.items() for record in part}
    assert home["make it blue"] == home["1"] == home["2"] and home["3"] == home["4"]
    assert len({home[f"free {n}"] for n in range(8)}) == 2


def test_data_check_names_pictures_and_texts_that_come_again(tmp_path, model_that_saw):
    test = [Record("other", images=(C, B), split="test", id="t"), Record("again", answer=LONG, split="test")]
    path = save_records([replace(EDIT, split="train"), *test], tmp_path / "records.parquet")
    found = check_records(path)
    assert found.errors == [f"the same picture is in the splits test, train: {path}:row 0, {path}:row 1"]
    twice = check_records(save_records([replace(EDIT, images=(A, A))], tmp_path / "twice.parquet"))
    assert not twice.errors and not any("same picture" in note for note in twice.notes)
    check_against(found, model_that_saw)
    assert "1 of 4 prompts" in found.errors[-1]


@pytest.fixture
def model_that_saw(tmp_path) -> Path:
    """A checkpoint whose run saw `LONG` as an answer."""
    from tests.tiny import tiny_model

    model = tiny_model()
    note_prompts(model, [Record("unlike the others", answer=LONG)])
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
