"""Rows of targets: of which record, dimension and trace they are, and which options reached the teacher."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from tests.plain_model import small_model
from tests.tiny import DIMENSIONS, noise_pictures
from zreward.data import Record
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel
from zreward.training.targets import LabelOptions, label

RECORDS = [
    Record(f"a {'red' if n % 2 else 'blue'} circle {'above ' * (n % 3)}", picture)
    for n, picture in enumerate(noise_pictures(7))
]
NAMES = ("realism", "alignment")


def rows_of(folder) -> list[dict]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def teacher() -> RewardModel:
    model = small_model(5).float()
    model.max_trace_tokens = 5
    return model


@pytest.fixture(scope="module")
def labelled(teacher, tmp_path_factory):
    """Seven records in shards of four, in batches of three; and what the teacher said of every batch."""
    said: list[Judgement] = []
    original = RewardModel.judge

    def judge(self, *arguments):
        found = original(self, *arguments)
        apart, cut = torch.tensor([0, 7]), torch.tensor([True, False])  # the dimensions are to differ in both
        found = [replace(one, tokens=one.tokens + apart, truncated=one.truncated & cut) for one in found]
        said.extend(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardModel, "judge", judge)
        options = LabelOptions(traces=3, dimensions=NAMES, shard_size=4, batch_size=3)
        out = label(teacher, "teacher", RECORDS, tmp_path_factory.mktemp("rows") / "targets", options)
    return rows_of(out), said


def test_every_record_and_dimension_has_its_row_in_order(labelled):
    rows, _ = labelled
    found = [(row["record"], row["dimension"], row["prompt"]) for row in rows]
    assert found == [(n, name, record.prompt) for n, record in enumerate(RECORDS) for name in NAMES]


def test_a_row_says_what_the_teacher_said_of_its_record_and_dimension(labelled):
    rows, said = labelled
    assert len(said) == len(RECORDS)
    for row in rows:
        judged, d = said[row["record"]], NAMES.index(row["dimension"])
        assert row["traces"] == judged.traces[row["dimension"]] and len(row["traces"]) == 3
        assert row["trace_probs"] == judged.trace_distribution[:, d].tolist()
        assert row["tokens"] == pytest.approx(judged.tokens[:, d].double().mean().item())
        assert row["truncated"] == pytest.approx(sum(judged.truncated[:, d].tolist()) / 3)
        for s in range(9):  # the arithmetic mean over the traces
            assert row["probs"][s] == pytest.approx(sum(probs[s] for probs in row["trace_probs"]) / 3, abs=1e-6)
        assert row["mean"] == pytest.approx(sum((1 + s / 2) * p for s, p in enumerate(row["probs"])), abs=1e-5)


def test_the_direct_form_is_what_score_says(teacher, tmp_path):
    options = LabelOptions(reasoning=False, dimensions=NAMES, shard_size=4, batch_size=3)
    rows = rows_of(label(teacher, "teacher", RECORDS, tmp_path / "direct", options))
    scores = teacher.score([r.image for r in RECORDS], [r.prompt for r in RECORDS], NAMES)
    for row in rows:
        d = NAMES.index(row["dimension"])
        assert row["probs"] == pytest.approx(scores.probs[row["record"], d].tolist(), abs=1e-5)
        assert row["mean"] == pytest.approx(scores.mean[row["record"], d].item(), abs=1e-4)
        assert row["traces"] == row["trace_probs"] == [] and row["tokens"] == row["truncated"] == 0


def test_options_reach_the_teacher_and_every_shard_draws_anew(teacher, tmp_path, monkeypatch):
    asked = []

    def judge(self, images, prompts, traces, names, temperature, batch_size):
        asked.append((list(images), list(prompts), traces, names, temperature, batch_size, torch.rand(1).item()))
        raise KeyboardInterrupt

    monkeypatch.setattr(RewardModel, "judge", judge)

    def first_call(out, records=RECORDS, **options):
        with pytest.raises(KeyboardInterrupt):
            label(teacher, "teacher", records, tmp_path / out, LabelOptions(**options))
        return asked[-1]

    images, prompts = [r.image for r in RECORDS[:2]], [r.prompt for r in RECORDS[:2]]
    *call, drawn = first_call("a", traces=4, temperature=0.3, batch_size=2, seed=5)
    assert call == [images, prompts, 4, DIMENSIONS, 0.3, 2]
    assert first_call("b", seed=5)[-1] == drawn != first_call("c", seed=6)[-1]
    torch.manual_seed(5 * 1_000_003)
    assert drawn == torch.rand(1).item()


def test_shards_do_not_draw_the_same(teacher, tmp_path, monkeypatch):
    drawn, original = [], RewardModel.judge

    def judge(self, *arguments):
        drawn.append(torch.rand(1).item())
        return original(self, *arguments)

    monkeypatch.setattr(RewardModel, "judge", judge)
    label(teacher, "teacher", RECORDS[:3], tmp_path / "x", LabelOptions(dimensions=("realism",), shard_size=1))
    assert len(set(drawn)) == 3
