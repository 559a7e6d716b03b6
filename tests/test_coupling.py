"""The counterfactual benchmark: what it reads beside plain passes in float64, its figures beside plain loops, its ways in."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import trace_editor
from tests.plain_model import plain_pass
from tests.tiny import noise_pictures, sharpen, tiny_model, tiny_records
from zreward.cli import main as cli
from zreward.common.errors import InputError
from zreward.common.jobs import Job
from zreward.data import Record
from zreward.data.writing import save_records
from zreward.evaluation import coupling as measuring
from zreward.evaluation.coupling import EMPTY, SWAP, Coupling, Reading, Written, measure_coupling
from zreward.evaluation.coupling_edits import DIRECTIONS
from zreward.evaluation.coupling_table import EDITS, OWN, coupling_section, coupling_table
from zreward.evaluation.metrics import hpa
from zreward.evaluation.prediction import Predictions
from zreward.evaluation.tables import POOLED

NAMES = ["realism", "alignment"]


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model(trace_tokens=5), 4).double()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    rated = tiny_records(2, 2, seed=3)
    lone = replace(tiny_records(1, 1, seed=4)[0], scores={"realism": 2.0})  # no other picture of its prompt
    return [*rated, lone]


@pytest.fixture
def read(model, records, monkeypatch) -> Coupling:
    trace_editor.install(monkeypatch)
    return measure_coupling(model, records, NAMES, "tiny", batch_size=2, progress=False)


@torch.no_grad()
def plain_mu(model, record: Record, dimension: str, text: str) -> float:
    ids = model.tokenizer(f" {text}", add_special_tokens=False)["input_ids"] if text else []
    tail = [*ids, *model.encoder.stop_ids, *model.encoder.prefix_ids]
    logits, _ = plain_pass(model, model.backbone.model, [record.image], record.prompt, dimension, tail, reasoning=True)
    probs = logits[-1, model.encoder.label_ids].softmax(-1)
    return sum(p * (1 + k / 2) for k, p in enumerate(probs.tolist()))


def test_mu_after_each_trace_is_that_of_a_plain_pass(model, records, read):
    """A trace of another row, a lost stop marker, or another picture's image beside the trace changes mu."""
    own = {item: trace.text for item, trace in zip(read.items, read.traces, strict=True)}
    assert read.items == [(n, "realism") for n in range(5)] + [(n, "alignment") for n in range(4)]
    assert len(set(own.values())) > 4
    kinds = set()
    for one in read.readings:
        kinds.add(one.kind)
        record = records[one.record]
        assert one.mu == pytest.approx(plain_mu(model, record, one.dimension, own[one.record, one.dimension]), abs=1e-6)
        assert one.changed == pytest.approx(plain_mu(model, record, one.dimension, one.text), abs=1e-6)
    assert kinds > {SWAP, EMPTY}
    mu = read.predictions.mean
    for n, name in read.items:
        assert mu[n, NAMES.index(name)].item() == pytest.approx(
            plain_mu(model, records[n], name, own[n, name]), abs=1e-5
        )


def test_a_swap_takes_the_trace_of_the_same_prompt_and_dimension(read, records):
    own = {item: (trace.text, mu) for item, trace, mu in zip(read.items, read.traces, _mus(read), strict=True)}
    swaps = [one for one in read.readings if one.kind == SWAP]
    assert len(swaps) == len(read.items)
    for one in swaps[:4] + swaps[5:]:
        (other,) = [n for n in range(4) if n != one.record and records[n].prompt == records[one.record].prompt]
        assert (one.text, one.other) == own[other, one.dimension]
    assert (swaps[4].text, swaps[4].other) in [own[n, "realism"] for n in range(4)], "else any other picture's"


def _mus(read: Coupling) -> list[float]:
    found = {(one.record, one.dimension): one.mu for one in read.readings}
    return [found[item] for item in read.items]


def test_edits_follow_the_editor(read, records):
    """No edit is made up, none of those that there are is lost."""
    own = {item: trace.text for item, trace in zip(read.items, read.traces, strict=True)}
    for item, text in own.items():
        found = [(one.kind, one.text, one.points) for one in read.readings
                 if (one.record, one.dimension) == item and one.kind in DIRECTIONS]  # fmt: skip
        assert found == [(one.kind, one.text, one.points) for one in trace_editor.edit(text, "", "")]


def test_traces_do_not_depend_on_the_batch_or_the_process(model, records, read, monkeypatch):
    """Every process writes its own batches' traces, as one process alone does."""
    trace_editor.install(monkeypatch)
    alone = measure_coupling(model, records, NAMES, "tiny", batch_size=5, progress=False)
    assert [one.text for one in alone.readings] == [one.text for one in read.readings]
    assert [one.changed for one in alone.readings] == pytest.approx([one.changed for one in read.readings], abs=1e-9)
    kept: dict[int, list[Written]] = {}

    def stop(job, own, count):
        kept.update(own)
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "gathered", stop)
    for number in (1, 2):
        before = len(kept)
        with pytest.raises(KeyboardInterrupt):
            measure_coupling(model, records, NAMES, "tiny", batch_size=2, progress=False, job=Job(number, 2))
        assert 2 <= len(kept) - before <= 3, "of five batches"
    assert [trace for number in sorted(kept) for trace in kept[number]] == read.traces


def coupling_of(readings: list[Reading], items: list[tuple[int, str]], mu: list[float], count: int) -> Coupling:
    bins = torch.arange(9) / 2 + 1
    probs = torch.zeros(count, 2, 9)
    probs[..., 0] = 1
    for (n, name), value in zip(items, mu, strict=True):
        low = int((value - 1) * 2)
        probs[n, NAMES.index(name)] = 0
        probs[n, NAMES.index(name), low] = 1 - (value - 1) * 2 + low
        probs[n, NAMES.index(name), min(low + 1, 8)] += (value - 1) * 2 - low
    nothing = torch.zeros(count, 2)
    traces = [Written("x", 1, False, False)] * len(items)
    return Coupling(Predictions(probs, bins, tuple(NAMES), nothing, nothing), items, traces, readings)


@pytest.fixture
def made() -> tuple[Coupling, list[Record]]:
    rng = np.random.default_rng(0)
    pictures = noise_pictures(1)
    records = [
        Record(f"p{n // 3}", pictures[0], {name: float(rng.integers(1, 6)) for name in NAMES}) for n in range(12)
    ]
    items = [(n, name) for name in NAMES for n in range(12)]
    mu = rng.uniform(1, 5, len(items)).tolist()
    readings = []
    for m, (n, name) in enumerate(items):
        other = mu[m - 1]
        readings.append(Reading(n, name, SWAP, mu[m], 0.3 * mu[m] + 0.7 * other + rng.normal() / 10, "t", other=other))
        readings.append(Reading(n, name, EMPTY, mu[m], 3.0 + rng.normal(), ""))
        for kind, direction in DIRECTIONS.items():
            if rng.random() < 0.7:
                points = direction * rng.uniform(0.5, 2)
                readings.append(Reading(n, name, kind, mu[m], mu[m] + points * rng.normal(0.4, 0.5), "t", points))
    return coupling_of(readings, items, mu, 12), records


def test_figures_are_those_of_plain_loops(made):
    coupling, records = made
    rows = {(row["dimension"], row["trace"]): row for row in coupling_table(coupling, records, resamples=0)}
    assert list(dict.fromkeys(name for name, _ in rows)) == [*NAMES, POOLED]
    for name in (*NAMES, POOLED):
        readings = [one for one in coupling.readings if name in (one.dimension, POOLED)]
        for kind, direction in DIRECTIONS.items():
            mine, row = [one for one in readings if one.kind == kind], rows[name, kind]
            right = sum((one.changed > one.mu) == (direction > 0) for one in mine) / len(mine)
            assert row["right"] == pytest.approx(right)
            assert row["n_items"] == len(mine)
            assert row["unedited"] == (24 if name == POOLED else 12) - len(mine)
            assert row["shift"] == pytest.approx(np.mean([one.changed - one.mu for one in mine]))
            assert row["moved"] == pytest.approx(np.mean([abs(one.changed - one.mu) for one in mine]))
            known, shift = [one.points for one in mine], [one.changed - one.mu for one in mine]
            assert row["correlation"] == pytest.approx(np.corrcoef(known, shift)[0, 1])
            assert row["weight"] == pytest.approx(np.dot(known, shift) / np.dot(known, known))
        edits = [one for one in readings if one.kind in DIRECTIONS]
        row = rows[name, EDITS]
        assert row["right"] == pytest.approx(np.mean([one.shift * DIRECTIONS[one.kind] > 0 for one in edits]))
        assert row["shift"] == pytest.approx(np.mean([one.shift * DIRECTIONS[one.kind] for one in edits]))
        swaps, row = [one for one in readings if one.kind == SWAP], rows[name, SWAP]
        difference = [one.other - one.mu for one in swaps]
        assert row["correlation"] == pytest.approx(np.corrcoef(difference, [one.shift for one in swaps])[0, 1])
        assert row["weight"] == pytest.approx(0.7, abs=0.1)
        for kind in (OWN, SWAP, EMPTY):
            said = {(one.record, one.dimension): one.mu if kind == OWN else one.changed
                    for one in coupling.readings if one.kind == (SWAP if kind == OWN else kind)}  # fmt: skip
            items = [item for item in coupling.items if name in (item[1], POOLED)]
            target = [records[n].score(each) for n, each in items]
            keys = [(records[n].prompt, each) for n, each in items]
            assert rows[name, kind]["hpa"] == pytest.approx(hpa([said[item] for item in items], target, keys))


def test_a_score_that_ignores_the_trace_has_no_weight_of_it(made):
    """The correlation alone would call a score that is drawn towards the middle a follower."""
    coupling, records = made
    rng = np.random.default_rng(1)
    readings = [one._replace(changed=3 + 0.2 * one.mu + rng.normal() / 50) for one in coupling.readings]
    rows = coupling_table(replace(coupling, readings=readings), records, resamples=0)
    row = next(row for row in rows if (row["dimension"], row["trace"]) == (POOLED, SWAP))
    assert row["correlation"] > 0.3 and abs(row["weight"]) < 0.03


def test_intervals_are_over_prompts(made):
    coupling, records = made
    rows = coupling_table(coupling, records, resamples=200)
    for row in rows:
        for key in ("right", "shift", "hpa", "weight"):
            if key in row:
                assert row[f"{key}_low"] <= row[key] <= row[f"{key}_high"]
    one_prompt = [replace(record, group="same") for record in records]
    alone = coupling_table(coupling, one_prompt, resamples=20)
    assert all(row["right_low"] == row["right"] for row in alone if "right" in row), "one prompt has no spread"


def test_the_section_shows_the_worst_edits_first(made):
    coupling, records = made
    rows = coupling_table(coupling, records, resamples=0)
    section = coupling_section(rows, coupling, records, count=3)
    assert len(section.lines) == len(rows) and all(len(line) == len(section.head) for line in section.lines)
    wrong = [one for one in coupling.readings if one.kind in DIRECTIONS and one.shift * DIRECTIONS[one.kind] < 0]
    worst = max(wrong, key=lambda one: abs(one.shift))
    assert len(section.figures) == 3
    assert f"mu {worst.mu:.2f} → {worst.changed:.2f}" in section.figures[0].text


def test_what_cannot_be_measured_is_refused(model, records):
    with pytest.raises(InputError, match="'other' is not known"):
        measure_coupling(model, records, editor="other")
    with pytest.raises(InputError, match="use a checkpoint"):
        measure_coupling(SimpleNamespace(), records)
    with pytest.raises(InputError, match="1 rated pictures; .* give two or more"):
        measure_coupling(model, records[4:], ["realism"])
    with pytest.raises(InputError, match="only one picture is rated on 'alignment'"):
        measure_coupling(model, [records[4], records[0]], progress=False, batch_size=8)


def test_the_command_prints_and_writes_both_tables(model, records, tmp_path, monkeypatch, capsys):
    trace_editor.install(monkeypatch)
    sharpen(tiny_model(trace_tokens=5), 4).save_pretrained(tmp_path / "model")
    save_records(records[:4], tmp_path / "rated.jsonl")
    base = ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "rated.jsonl"), "--dimensions", "realism"]
    how = ["--coupling", "--editor", "tiny", "--resamples", "20"]
    out = [f"--{name}={tmp_path / f'found.{name}'}" for name in ("json", "html", "csv")]
    assert _code([*base, *how, *out]) == 0
    printed = capsys.readouterr().out
    assert "Does the score follow the reasoning?" in printed and "right way" in printed
    found = json.loads((tmp_path / "found.json").read_text())
    traces = [row["trace"] for row in found["coupling"]]
    assert traces == [OWN, SWAP, EMPTY, *DIRECTIONS, EDITS]
    assert found["coupling"][0]["hpa"] == found["metrics"][0]["hpa"]
    page = Path(tmp_path / "found.html").read_text()
    assert "Does the score follow the reasoning?</h2>" in page
    assert (tmp_path / "found.csv").read_text().startswith("dimension,")


def _code(arguments: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zreward", *arguments])
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0
