"""Training, labelling and evaluation on records without a picture and with two, mixed in one file; and what is refused."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import DIMENSIONS, noise_pictures
from zreward.common.errors import InputError
from zreward.data import Record, load_records, open_records, save_records
from zreward.data.record_table import RecordTable, kinds_of
from zreward.evaluation.prediction import predict
from zreward.inference.bulk import score_data
from zreward.models.reward_model import RewardModel
from zreward.prompting import Texts
from zreward.training.run import train
from zreward.training.sequences import check_sequences
from zreward.training.targets import LabelOptions, label

BINS = [1 + k / 2 for k in range(9)]


def sequences(prompts: int, seed: int) -> list[Record]:
    """Three records of each prompt: an answer, an edit, and a picture with an answer."""
    rng, shown = random.Random(seed), iter(noise_pictures(3 * prompts, seed=seed + 100))
    pngs = []
    for picture in shown:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        pngs.append(buffer.getvalue())
    found = []
    for n in range(prompts):
        text, (first, second, third) = f"a red circle above {seed} {n}", pngs[3 * n : 3 * n + 3]
        for fields in (
            {"answer": f"a {rng.choice(('red', 'blue'))} circle"},
            {"images": (first, second)},
            {"image": third, "answer": "a square"},
        ):
            found.append(Record(text, **fields, scores={name: rng.choice(BINS) for name in DIMENSIONS}))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sequences")
    parts = {"train": (4, 0), "dev": (2, 1)}
    return {name: str(save_records(sequences(*size), folder / f"{name}.parquet")) for name, size in parts.items()}


def moved(recipe, name: str) -> bool:
    """Whether a weight of a part is another one than in the model that training started from."""
    before, after = (RewardModel.from_pretrained(one) for one in (recipe.model.name, Path(recipe.out) / "model"))
    pairs = zip(before.backbone.model.named_parameters(), after.backbone.model.named_parameters(), strict=True)
    return any(not torch.equal(one, other) for (key, one), (_, other) in pairs if name in key)


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory, tiny_data) -> Path:
    """A teacher by SFT on the mixed records."""
    from zreward.common.config import config_from_dict
    from zreward.training.recipe import Recipe

    raw = {
        "method": "sft",
        "out": str(tmp_path_factory.mktemp("runs") / "sft"),
        "data": {"train": files["train"], "dev": files["dev"], "group_dimensions": True},
        "model": {"name": str(tiny_data["base"])},
        "optimizer": {"steps": 3, "batch_size": 3, "learning_rate": 1e-3, "warmup_steps": 0},
        "eval_every": 3,
    }
    recipe = config_from_dict(Recipe, raw)
    folder = train(recipe)
    assert moved(recipe, "visual") and moved(recipe, "embed_tokens")
    return folder


def test_a_student_learns_a_teachers_targets_of_mixed_records(trained, files, make_recipe, tmp_path):
    records = load_records(files["train"])
    targets = label(RewardModel.from_pretrained(trained), "teacher", records, tmp_path / "targets", LabelOptions())
    recipe = make_recipe("risd", data__train=files["train"], data__targets=str(targets))
    student = RewardModel.from_pretrained(train(recipe))
    assert moved(recipe, "visual")
    dev = load_records(files["dev"])
    found = predict(student, dev, progress=False, batch_size=4)
    for n, record in enumerate(dev):
        one = student.score([record.pictures], record.prompt, answers=record.answer)
        assert torch.allclose(found.probs[n].float(), one.probs[0], atol=1e-5)
    reasoned = predict(student, dev[:3], progress=False, reasoning=True, temperature=0)
    for n, record in enumerate(dev[:3]):
        (one,) = student.judge([record.pictures], record.prompt, 1, temperature=0, answers=record.answer)
        assert torch.allclose(reasoned.probs[n].float(), one.distribution.probs[0], atol=1e-5)


def test_targets_belong_to_their_answers_and_pictures(trained, files, make_recipe, tmp_path):
    """A teacher's verdict on one answer is none on another."""
    records = load_records(files["train"])
    model = RewardModel.from_pretrained(trained)
    targets = label(model, "teacher", records, tmp_path / "targets", LabelOptions(reasoning=False))
    for changed in (replace(records[0], answer="a cross"), replace(records[1], images=records[1].images[::-1])):
        number = 0 if changed.answer else 1
        other = [*records[:number], changed, *records[number + 1 :]]
        path = save_records(other, tmp_path / "other.parquet")
        with pytest.raises(InputError, match="made for other records"):
            train(make_recipe("risd", data__train=str(path), data__targets=str(targets)))


def test_gdso_reasons_about_mixed_records(files, make_recipe):
    recipe = make_recipe("gdso", steps=1, data__train=files["train"], optimizer__share_prefix=True)
    train(recipe)
    assert moved(recipe, "embed_tokens")


def test_bulk_scores_are_those_of_each_item(trained, files, tmp_path):
    import pyarrow.parquet as pq

    model = RewardModel.from_pretrained(trained)
    assert score_data(model, files["dev"], tmp_path / "scores.parquet", ("realism",), 2) == 6
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    for record, row in zip(load_records(files["dev"]), rows, strict=True):
        one = model.score([record.pictures], record.prompt, ["realism"], answers=record.answer)
        assert row["realism_probs"] == pytest.approx(one.probs[0, 0].tolist(), abs=1e-5)


def test_the_rows_of_a_rollout_show_their_own_pictures(files, make_recipe):
    from zreward.training.rollout_data import rows_of_sides

    records = load_records(files["train"])[:3]
    rows = rows_of_sides([(one, name) for one, name in zip(records, DIMENSIONS, strict=False)], 2)
    assert [row.images for row in rows] == [(), (), (0, 1), (0, 1), (2,), (2,)]
    assert [row.texts for row in rows[::2]] == [Texts(one.prompt, one.answer) for one in records]
    assert [row.dimension for row in rows[::2]] == [*DIMENSIONS[:3]]


# --- bad input


def test_what_training_refuses(files, make_recipe):
    records = load_records(files["train"])
    answer, edit, _ = records[:3]
    for compares, keys, record, match in (
        (True, {}, edit, "2 pictures; rewarddance-pairwise takes records of one picture"),
        (False, {"data__augment": True}, edit, "data.augment mirrors and shifts each by itself"),
    ):
        with pytest.raises(InputError, match=match):
            check_sequences(make_recipe("sft", **keys), compares, [record])
    engine = make_recipe("gdso", rollout__engine="vllm")
    with pytest.raises(InputError, match="rollout.engine vllm takes records of one picture"):
        check_sequences(engine, False, [answer])
    check_sequences(make_recipe("sft", data__augment=True), False, [answer, records[2]])
    with pytest.raises(InputError, match="2 pictures|an answer; rewarddance-pairwise"):
        train(make_recipe("rewarddance-pairwise", data__train=files["train"]))


def test_large_files_are_not_read_twice_at_the_start(files, make_recipe, monkeypatch):
    """Half a million records would take half a minute; how many pictures each shows is known without making it."""
    opened, whole = open_records(files["train"]), load_records(files["train"])
    assert list(kinds_of(opened)) == list(kinds_of(whole)) == [(len(r.pictures), r.answer is not None) for r in whole]
    made, record = [], RecordTable.record
    monkeypatch.setattr(RecordTable, "record", lambda self, row: made.append(row) or record(self, row))
    monkeypatch.setattr(RecordTable, "records", None)
    check_sequences(make_recipe("sft"), False, opened)
    assert made == [n for n, kind in enumerate(kinds_of(opened)) if kind != (1, False)]


def test_a_label_run_of_a_teacher_of_single_pictures_is_refused_before_it_begins(files, tmp_path, monkeypatch, trained):
    model = RewardModel.from_pretrained(trained)
    monkeypatch.setattr(RewardModel, "any_sequence", False)
    with pytest.raises(InputError, match="takes records of one picture and no answer"):
        label(model, "teacher", load_records(files["train"]), tmp_path / "targets", LabelOptions())
    assert not (tmp_path / "targets").exists()


def test_a_page_shows_all_pictures_of_a_record_and_its_answer(trained, files, tmp_path):
    pytest.importorskip("matplotlib")
    from zreward.evaluation.report.evaluation import side_by_side, words_of

    answer, edit, seen = load_records(files["dev"])[:3]
    first, second = edit.open_images()
    row = side_by_side(edit)
    assert row.size == (first.width + second.width, max(first.height, second.height))
    assert row.crop((0, 0, *first.size)).tobytes() == first.tobytes()
    assert row.crop((first.width, 0, first.width + second.width, second.height)).tobytes() == second.tobytes()
    assert side_by_side(answer).size == (32, 32) and side_by_side(seen).size == seen.open_image().size
    assert words_of(answer) == f"{answer.prompt} — {answer.answer}" and words_of(edit) == edit.prompt
