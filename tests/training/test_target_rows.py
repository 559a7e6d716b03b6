"""The rows of target files against plain loops: a stand-in answers for the teacher, so that every number is known."""

from __future__ import annotations

import hashlib
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import COMPARISON, noise_pictures, tiny_model
from zreward.common.errors import InputError, NotFiniteError
from zreward.data import Record
from zreward.distribution import ScoreDistribution
from zreward.models.pairwise import comparing
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel
from zreward.models.teacher import ReportedDistribution
from zreward.training import targets
from zreward.training.recipe import DataRecipe
from zreward.training.targets import LabelOptions, distilled_items, explained_items, label

NAMES = ("realism", "alignment")
SCORES = [{"realism": 2.0, "alignment": 4.5}, {"realism": [1.0, 5.0, 4.5]}, {}, {"alignment": 3.0}, {"realism": 5.0}]
RECORDS = [
    Record(f"a red circle {n}", picture, scores)
    for n, (picture, scores) in enumerate(zip(noise_pictures(5), SCORES, strict=True))
]
BINS = [1 + k / 2 for k in range(9)]


class Teacher:
    """Stands in for a model's `judge` and `score_windows`: random answers, from torch's global state as the real ones."""

    def __init__(self, model: RewardModel) -> None:
        self.model, self.calls, self.broken = model, [], None
        model.judge, model.score_windows = self.judge, self.score_windows

    def judge(self, images, prompts, traces, names, temperature, batch_size):
        self.calls.append(
            ([RECORDS[[r.image for r in RECORDS].index(i)].prompt for i in images], temperature, batch_size)
        )
        assert [r.prompt for r in RECORDS if r.image in images] == prompts
        if len(self.calls) == self.broken:
            raise NotFiniteError(1, "realism")
        return [self.answer(traces, names) for _ in images]

    def answer(self, traces: int, names) -> Judgement:
        probs = torch.rand(traces, len(names), 9).softmax(-1)
        numbers = torch.randint(1, 50, (traces, len(names)))
        texts = {name: [f"{name} {k}: {numbers[k, d]}" for k in range(traces)] for d, name in enumerate(names)}
        distribution = ScoreDistribution(probs.mean(0, keepdim=True), torch.tensor(BINS), names)
        return Judgement(distribution, texts, probs, numbers, numbers > 20)

    def score_windows(self, shown, prompts, names, window, batch_size):
        prompts = [text.prompt for text in prompts]
        assert [image for (image,) in shown] == [r.image for r in RECORDS if r.prompt in prompts]
        for start in range(0, len(shown), window):
            part = prompts[start : start + window]
            self.calls.append((part, None, batch_size))
            yield ScoreDistribution(torch.rand(len(part), len(names), 9).softmax(-1), torch.tensor(BINS), names)


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(tiny_model())


def read(folder) -> list[dict]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_options_that_are_not_given():
    expected = (1, None, 1.0, True, 0, 256, 16)
    found = LabelOptions()
    assert (found.traces, found.dimensions, found.temperature, found.reasoning) == expected[:4]
    assert (found.seed, found.shard_size, found.batch_size) == expected[4:]
    assert LabelOptions(temperature=0).temperature == 0  # greedy
    for name in ("traces", "shard_size", "batch_size"):
        with pytest.raises(InputError, match=f"{name} is 0"):
            LabelOptions(**{name: 0})


def test_every_shard_has_random_numbers_of_its_own(teacher, tmp_path, capsys):
    options = LabelOptions(traces=3, dimensions=NAMES, temperature=0.7, seed=7, shard_size=3, batch_size=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    label(teacher.model, "stand-in", RECORDS, tmp_path / "out", options)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's own
    said = capsys.readouterr().err
    assert "\rlabelling: 100%" in said and "5/5" in said and re.search(r"[\d?]image/s", said)
    assert "nothing to do" not in said
    assert teacher.calls == [([r.prompt for r in RECORDS[a:b]], 0.7, 2) for a, b in ((0, 2), (2, 3), (3, 5))]
    files = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert files == ["targets-00000.parquet", "targets-00001.parquet"]
    expected = []
    for shard, members in enumerate(((0, 1, 2), (3, 4))):
        torch.manual_seed(7 * 1_000_003 + shard)
        for n in members:
            answer = teacher.answer(3, NAMES)
            for d, name in enumerate(NAMES):
                probs = answer.trace_distribution[:, d]
                mean = probs.mean(0)
                scores = [sum(p * b for p, b in zip(each, BINS, strict=True)) for each in probs.tolist()]
                squares = [sum(p * b * b for p, b in zip(each, BINS, strict=True)) for each in probs.tolist()]
                inside = sum(square - score**2 for square, score in zip(squares, scores, strict=True)) / 3
                apart = sum((score - sum(scores) / 3) ** 2 for score in scores) / 3
                expected.append(
                    {
                        "record": n,
                        "prompt": RECORDS[n].prompt,
                        "dimension": name,
                        "probs": pytest.approx(mean.tolist()),
                        "mean": pytest.approx(sum(p * b for p, b in zip(mean.tolist(), BINS, strict=True))),
                        "within_std": pytest.approx(inside**0.5, rel=1e-4),
                        "between_std": pytest.approx(apart**0.5, rel=1e-4),
                        "trace_probs": probs.tolist(),
                        "traces": answer.traces[name],
                        "tokens": pytest.approx(sum(answer.tokens[:, d].tolist()) / 3),
                        "truncated": pytest.approx(sum(answer.truncated[:, d].tolist()) / 3),
                    }
                )
    assert read(tmp_path / "out") == expected
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    made_from = [line["made_from"] for line in manifest["shards"]]
    assert made_from == ["records 0 to 2", "records 3 to 4"]
    assert manifest["options"]["dimensions"] == list(NAMES) and "batch_size" not in manifest["options"]


def test_a_teacher_that_answers_directly_has_no_traces(teacher, tmp_path):
    options = LabelOptions(dimensions=NAMES, reasoning=False, shard_size=5, batch_size=3)
    label(teacher.model, "stand-in", RECORDS, tmp_path / "out", options)
    assert teacher.calls == [([r.prompt for r in RECORDS[a:b]], None, 3) for a, b in ((0, 3), (3, 5))]
    torch.manual_seed(0)
    probs = torch.cat([torch.rand(n, 2, 9).softmax(-1) for n in (3, 2)])
    rows = read(tmp_path / "out")
    assert [(row["record"], row["dimension"]) for row in rows] == [(n, name) for n in range(5) for name in NAMES]
    for row in rows:
        assert row["probs"] == probs[row["record"], NAMES.index(row["dimension"])].tolist()
        assert (row["traces"], row["trace_probs"], row["tokens"], row["truncated"]) == ([], [], 0.0, 0.0)


def test_an_item_that_is_no_number_is_counted_from_the_first_record(teacher, tmp_path):
    teacher.broken = 5  # the second batch of the second shard begins with record 4; of it the second item
    records = [*RECORDS, *RECORDS[:1]]
    options = LabelOptions(dimensions=NAMES, shard_size=3, batch_size=1)
    with pytest.raises(NotFiniteError, match="^item 5, dimension 'realism'"):
        label(teacher.model, "stand-in", records, tmp_path / "out", options)
    assert not (tmp_path / "out" / "targets-00001.parquet").exists()


def test_a_model_that_compares_makes_no_targets(tmp_path):
    with pytest.raises(InputError, match="pairwise compares with a reference; label with a model that scores single"):
        label(comparing(tiny_model(), COMPARISON), "pairwise", RECORDS, tmp_path / "out", LabelOptions())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(teacher, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds no manifest.json; choose another folder for the"):
        label(teacher.model, "stand-in", RECORDS, tmp_path, LabelOptions())


# --- what training makes of them


@pytest.fixture
def made(teacher, tmp_path):
    options = LabelOptions(traces=3, dimensions=NAMES, shard_size=2)
    return teacher.model, label(teacher.model, "stand-in", RECORDS, tmp_path / "made", options)


def test_distilled_targets_are_means_over_traces(made):
    model, folder = made
    rows = read(folder)
    every = distilled_items(folder, RECORDS, DataRecipe(train=""), model)
    assert [(item.record, item.dimension) for item in every] == [(RECORDS[r["record"]], r["dimension"]) for r in rows]
    assert [item.target.tolist() for item in every] == [torch.tensor(row["probs"]).tolist() for row in rows]
    first = distilled_items(folder, RECORDS, DataRecipe(train="", train_records=2, target_traces=2), model)
    assert len(first) == 4 and {item.record.prompt for item in first} == {r.prompt for r in RECORDS[:2]}
    for item, row in zip(first, rows, strict=False):
        by_hand = [(a + b) / 2 for a, b in zip(*row["trace_probs"][:2], strict=True)]
        assert item.target.tolist() == pytest.approx(by_hand)
    hard = distilled_items(folder, RECORDS, DataRecipe(train="", one_hot_targets=True, dimensions=["realism"]), model)
    assert {item.dimension for item in hard} == {"realism"} and len(hard) == 5
    for item, row in zip(hard, rows[::2], strict=True):
        assert item.target.tolist() == [float(p == max(row["probs"])) for p in row["probs"]]
        assert item.target.dtype == torch.float32
    whole = distilled_items(folder, RECORDS, DataRecipe(train="", target_traces=3), model)
    assert len(whole) == 10
    with pytest.raises(InputError, match="made with 3 traces an item, data.target_traces is 4.*--traces 4"):
        distilled_items(folder, RECORDS, DataRecipe(train="", target_traces=4), model)


def test_an_annotation_is_explained_by_the_trace_that_gives_it_most_weight(made):
    model, folder = made
    rows = {(row["record"], row["dimension"]): row for row in read(folder)}
    data = DataRecipe(train="", smoothing=0.4)
    items = explained_items(folder, RECORDS, data, NAMES, model)
    scale = model.rubric.scale
    rated = [(0, "realism"), (0, "alignment"), (1, "realism"), (3, "alignment"), (4, "realism")]
    assert [(RECORDS.index(item.record), item.dimension) for item in items] == rated
    for item, key in zip(items, rated, strict=True):
        target = scale.histogram(RECORDS[key[0]].ratings(key[1]), 0.4).tolist()
        weights = [sum(p * t for p, t in zip(probs, target, strict=True)) for probs in rows[key]["trace_probs"]]
        best = rows[key]["traces"][weights.index(max(weights))]
        assert item.target.tolist() == target
        assert item.explanation == (target.index(max(target)), model.as_trace(best))
        assert type(item.explanation[0]) is int
    few = explained_items(folder, RECORDS, DataRecipe(train="", train_records=1), ["alignment"], model)
    assert [(item.record, item.dimension) for item in few] == [(RECORDS[0], "alignment")]


@pytest.mark.parametrize(
    "stored",
    [{"records": "", "rubric": "", "options": 3}, {"records": "", "options": {"dimensions": []}}, {"records": ""}],
)
def test_a_manifest_of_another_form_is_damaged(made, stored):
    model, folder = made
    (folder / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"manifest.json is damaged; delete the folder and run `zreward label` again"):
        distilled_items(folder, RECORDS, DataRecipe(train=""), model)


def test_a_shard_that_cannot_be_read_is_named_with_the_first_line_of_the_reason(tmp_path, monkeypatch):
    def refuse(file, columns):
        raise pa.ArrowInvalid("not a Parquet file\nDetails that fill a page")

    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(
        InputError, match="a.parquet is damaged: not a Parquet file; delete it, and run `zreward label`"
    ):
        targets.shard_table(tmp_path / "a.parquet", ["record"])


@pytest.mark.parametrize(("fault", "labelled"), [("one shard twice", 3), ("no shard", 0)])
def test_records_without_a_row_are_counted(made, fault, labelled):
    """In a folder of version 0.1, which has no checksums: shards of records 0 and 1, 2 and 3, 4."""
    model, folder = made
    stored = json.loads((folder / "manifest.json").read_text())
    stored |= {"schema": 1, "records": targets._records_fingerprint_1(RECORDS)}
    (folder / "manifest.json").write_text(json.dumps(stored))
    first, second, third = sorted(folder.glob("targets-*.parquet"))
    if fault == "no shard":
        for shard in (first, second, third):
            shard.unlink()
    else:
        second.write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=f"{labelled} of 5 records are labelled; run `zreward label` to the end"):
        distilled_items(folder, RECORDS, DataRecipe(train=""), model)


def test_targets_of_another_rubric_are_refused(made):
    model, folder = made
    stored = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(stored | {"rubric": "another"}))
    with pytest.raises(InputError, match="made with another rubric than the student's"):
        distilled_items(folder, RECORDS, DataRecipe(train=""), model)


def test_records_of_older_versions_are_told_by_size_bytes_and_pixels(tmp_path):
    path, picture = tmp_path / "one.png", noise_pictures(1)[0]
    path.write_bytes(b"12345")
    records = [Record("a", str(path), {}), Record("b", b"encoded", {}), Record("c", picture, {})]
    digest = hashlib.sha256()
    for prompt, image in zip("abc", (b"one.png 5", b"encoded", picture.tobytes()), strict=True):
        digest.update(prompt.encode() + b"\0" + hashlib.sha256(image).digest())
    assert targets._records_fingerprint_1(records) == digest.hexdigest()[:16]


def test_what_a_server_reported_is_written_beside_its_distribution():
    probs = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
    facts = (({"bounded": 0.125}, {"bounded": 0.5}),)
    reported = ReportedDistribution(probs, torch.tensor([1.0, 2.0]), ("a", "b"), facts=facts)
    rows = targets._shard_rows(reported, 3, "a dog", ("a", "b"))
    assert [(row["record"], row["probs"], row["mean"], row["bounded"]) for row in rows] == [
        (3, [0.25, 0.75], 1.75, 0.125),
        (3, [1.0, 0.0], 1.0, 0.5),
    ]
