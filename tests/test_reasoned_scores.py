"""`score --traces K` and `rank --traces K`: the spread within and between traces, beside plain sums over the judged traces."""

from __future__ import annotations

import csv
import json
import sys
from math import sqrt

import pytest
import torch

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.cli import main as cli
from zreward.inference.scoring import Sampling, reasoned, score_rows


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model())


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, picture in zip(paths, noise_pictures(2), strict=True):
        picture.save(path)
    return [str(path) for path in paths]


def test_the_spread_is_that_of_the_traces(model, pictures):
    torch.manual_seed(5)
    judged = model.judge(pictures, ["a", "b"], traces=3, temperature=1.5, batch_size=2)
    rows = score_rows(model, pictures, ["a", "b"], None, 2, sampling=Sampling(3, 1.5, 5))
    bins, seen = model.rubric.scale.bins.tolist(), []
    for row, judgement in zip(rows, judged, strict=True):
        for d, (name, told) in enumerate(row["dimensions"].items()):
            traces = judgement.trace_distribution[:, d].double().tolist()
            means = [sum(p * s for p, s in zip(one, bins, strict=True)) for one in traces]
            variances = [
                sum(p * (s - mean) ** 2 for p, s in zip(one, bins, strict=True))
                for one, mean in zip(traces, means, strict=True)
            ]
            middle = sum(means) / 3
            between = sum((mean - middle) ** 2 for mean in means) / 3
            assert told["mean"] == pytest.approx(middle, abs=1e-5), name
            assert told["within_std"] == pytest.approx(sqrt(sum(variances) / 3), abs=1e-4)
            assert told["between_std"] == pytest.approx(sqrt(between), abs=1e-4)
            assert told["std"] == pytest.approx(sqrt(sum(variances) / 3 + between), abs=1e-4)
            seen.append(between)
    assert max(seen) > 1e-6, "the traces of this test must disagree"


def test_the_seed_decides_and_the_random_state_is_left_alone(model, pictures):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, _ = reasoned(model, pictures, ["a", "b"], None, None, Sampling(2, 1.5, 0))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, _ = reasoned(model, pictures, ["a", "b"], None, None, Sampling(2, 1.5, 0))
    other, _ = reasoned(model, pictures, ["a", "b"], None, None, Sampling(2, 1.5, 1))
    assert torch.equal(first.probs, again.probs) and not torch.equal(first.probs, other.probs)


def test_the_commands_print_and_write_it(model, pictures, tmp_path, monkeypatch, capsys):
    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["zreward", *words])
        monkeypatch.setattr(f"zreward.cli.{words[0]}.load_model", lambda *_: model)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert not stop.value.code, said.err
        return said.out

    table = tmp_path / "scores.csv"
    sampled = ("--prompt", "x", "--traces", "2", "--temperature", "1.5", "--seed", "3")
    told = call("score", "MODEL", *pictures, *sampled, "--out", str(table))
    assert "within" in told and "between" in told
    assert "within" not in call("score", "MODEL", *pictures, "--prompt", "x")
    rows = list(csv.DictReader(table.open()))
    expected, spreads = reasoned(model, pictures, ["x", "x"], None, None, Sampling(2, 1.5, 3))
    name = expected.dimensions[0]
    assert [float(row[f"{name}_between_std"]) for row in rows] == [one[name]["between_std"] for one in spreads]
    ranked = json.loads(call("rank", "MODEL", *pictures, *sampled, "--json", "-"))
    means = dict(zip(pictures, expected.mean.double().mean(1).tolist(), strict=True))
    assert {one["image"]: one["overall"] for one in ranked} == pytest.approx(means, abs=1e-4)
