"""Post-hoc calibration: its maps beside plain loops, its fit on data whose answer is known, and where a checkpoint uses it."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.tiny import DIMENSIONS, noise_pictures, sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.data.record import Record
from zreward.distribution import ScoreScale
from zreward.evaluation import calibrating
from zreward.evaluation.calibrating import FEWEST, cross_fitted, fit
from zreward.evaluation.calibration_table import (
    COLUMNS,
    calibration_rows,
    items_of,
    pair_probabilities,
    print_calibration,
)
from zreward.evaluation.prediction import Predictions
from zreward.models.calibration import Calibration, Recalibration, read_calibrations, recalibrate
from zreward.models.checkpoint import META_FILE, record_calibrations
from zreward.models.reasoning import Judgement
from zreward.models.reward_model import RewardModel

SCALE = ScoreScale(1, 5, 1)
S = len(SCALE)


def plain_temperature(probs: list[float], temperature: float) -> list[float]:
    powers = [p ** (1 / temperature) for p in probs]
    return [power / sum(powers) for power in powers]


def plain_ordinal(probs: list[float], temperature: float, shift: float) -> list[float]:
    cdf = [0.0]
    for s in range(1, len(probs)):
        below, above = sum(probs[:s]), sum(probs[s:])
        cdf.append(1 / (1 + math.exp(-(math.log(below / above) - shift) / temperature)))
    cdf.append(1.0)
    return [after - before for before, after in itertools.pairwise(cdf)]


@pytest.fixture(scope="module")
def probs() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(S), 6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_beside_a_plain_loop(probs, temperature):
    found = recalibrate(torch.from_numpy(probs).log(), Recalibration(temperature), "temperature")
    assert found.tolist() == [pytest.approx(plain_temperature(row, temperature)) for row in probs.tolist()]


@pytest.mark.parametrize(("temperature", "shift"), [(1.0, 0.0), (2.0, 0.0), (0.7, 1.5), (1.3, -0.8)])
def test_ordinal_beside_a_plain_loop(probs, temperature, shift):
    found = recalibrate(torch.from_numpy(probs).log(), Recalibration(temperature, shift), "ordinal")
    assert found.tolist() == [pytest.approx(plain_ordinal(row, temperature, shift)) for row in probs.tolist()]


def test_a_shift_above_0_raises_scores_and_nothing_changes_nothing(probs):
    log_probs, bins = torch.from_numpy(probs).log(), SCALE.bins.double()
    assert ((recalibrate(log_probs, Recalibration(1, 0.5), "ordinal") - torch.from_numpy(probs)) @ bins > 0).all()
    for kind in ("temperature", "ordinal"):
        torch.testing.assert_close(recalibrate(log_probs, Recalibration(), kind), torch.from_numpy(probs))


@pytest.mark.parametrize("kind", ["temperature", "ordinal"])
def test_gradients_reach_the_logits_of_sharp_distributions_too(kind):
    logits = torch.tensor([[0.1, 0.4, -0.3, 0.0], [60.0, -60.0, 0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    mean = recalibrate(logits.log_softmax(-1), Recalibration(1.7, 0.2), kind) @ torch.arange(4.0, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(mean.sum(), logits)
    assert torch.isfinite(gradient).all() and (gradient[0] != 0).all()


def of(probs_NKS: np.ndarray, counts: np.ndarray, group: list[str]) -> dict:
    """Items of one dimension, from whole ratings."""
    records = [
        Record(prompt, b"x", {"a": [float(SCALE.bins[s]) for s, c in enumerate(row) for _ in range(int(c))]})
        for prompt, row in zip(group, counts, strict=True)
    ]
    probs = torch.from_numpy(probs_NKS)[:, :, None]
    blank = torch.ones(len(records), 1)
    said = Predictions(probs.mean(1), SCALE.bins, ("a",), blank, blank * 0, trace_probs=probs)
    return items_of(said, records)


@pytest.mark.parametrize(
    ("kind", "by"), [("temperature", (1.8, 0.0)), ("ordinal", (1.6, 0.7)), ("ordinal", (0.6, -0.4))]
)
def test_the_fit_finds_what_the_ratings_were_drawn_with(kind, by):
    rng = np.random.default_rng(1)
    told = rng.dirichlet(np.full(S, 1.5), 1500)
    true = recalibrate(torch.from_numpy(told).log(), Recalibration(*by), kind).numpy()
    counts = np.stack([rng.multinomial(8, row / row.sum()) for row in true])
    found = fit(of(told[:, None], counts, [f"{n}" for n in range(len(told))]), kind)["a"]
    assert (found.temperature, found.shift) == (pytest.approx(by[0], rel=0.06), pytest.approx(by[1], abs=0.06))


def paired(seed: int, true_scale: float, prompts: int = 600) -> dict:
    """Items whose pairs are voted on as independent draws say, the logit times `true_scale`."""
    rng = np.random.default_rng(seed)
    told = rng.dirichlet(np.full(S, 1.5), 2 * prompts)
    part = of(told[:, None], rng.multinomial(1, [1 / S] * S, 2 * prompts), [f"{n // 2}" for n in range(2 * prompts)])[
        "a"
    ]
    votes = []
    for first, second in part.pairs:
        chance = sum(told[first, s] * (told[second, :s].sum() + told[second, s] / 2) for s in range(S))
        odds = (chance / (1 - chance)) ** true_scale
        better = rng.binomial(50, odds / (1 + odds))
        votes.append((better, 50 - better, 0))
    return {"a": part._replace(votes=np.array(votes, float))}


@pytest.mark.parametrize("true_scale", [0.5, 1.0, 1.7])
def test_the_scale_of_pairs_is_the_one_that_votes_were_drawn_with(true_scale, monkeypatch):
    monkeypatch.setattr(calibrating, "_fit_spread", lambda *_: Recalibration())
    assert fit(paired(2, true_scale), "temperature")["a"].pair_scale == pytest.approx(true_scale, rel=0.05)


def test_folds_scale_pairs_that_the_fit_did_not_see(monkeypatch):
    """The votes of the pair of a prompt change that prompt's own scale in no fold."""
    monkeypatch.setattr(calibrating, "_fit_spread", lambda *_: Recalibration())
    items = paired(3, 1.4, 60)
    found = cross_fitted(items, "temperature")["a"]
    assert len(set(found.pair_scale.tolist())) == 5
    for changed in (0, 17):
        votes = items["a"].votes.copy()
        votes[changed] = votes[changed][[1, 0, 2]]
        other = cross_fitted({"a": items["a"]._replace(votes=votes)}, "temperature")["a"]
        assert other.pair_scale[changed] == found.pair_scale[changed]
        assert (other.pair_scale != found.pair_scale).any()


def test_pair_probabilities_beside_a_plain_loop(probs):
    items = of(probs[:, None], np.ones((6, S), int), ["p", "p", "p", "q", "q", "r"])["a"]
    items = items._replace(pair_scale=np.array([1.0, 2.0, 0.5, 1.3]))
    expected = []
    for (first, second), scale in zip(items.pairs, items.pair_scale, strict=True):
        chance = sum(probs[first, s] * (probs[second, :s].sum() + probs[second, s] / 2) for s in range(S))
        expected.append(1 / (1 + ((1 - chance) / chance) ** scale))
    assert pair_probabilities(items).tolist() == pytest.approx(expected)


def test_votes_that_are_all_alike_are_told(monkeypatch):
    monkeypatch.setattr(calibrating, "_fit_spread", lambda *_: Recalibration())
    part = paired(5, 1.0, 40)["a"]
    sure = pair_probabilities(part) > 0.5
    unanimous = np.stack([7.0 * sure, 7.0 * ~sure, np.zeros(len(sure))], 1)
    with pytest.warns(UserWarning, match="a: the fit of comparisons ran to its limit, scale 100"):
        fit({"a": part._replace(votes=unanimous)}, "temperature")


def test_few_pairs_leave_their_scale_alone(monkeypatch):
    monkeypatch.setattr(calibrating, "_fit_spread", lambda *_: Recalibration())
    assert fit(paired(4, 3.0, FEWEST - 1), "temperature")["a"].pair_scale == 1
    assert fit(paired(4, 3.0, FEWEST), "temperature")["a"].pair_scale > 1.5


def test_a_model_that_says_nothing_is_told():
    told = np.tile([0.96, 0.01, 0.01, 0.01, 0.01], (30, 1))
    counts = np.tile([0, 1, 1, 1, 1], (30, 1))
    with pytest.warns(UserWarning, match="a: the fit ran to its limit, temperature 100"):
        found = fit(of(told[:, None], counts, [f"{n}" for n in range(30)]), "temperature")["a"]
    assert found.temperature == 100


def test_with_several_traces_their_calibrated_mean_is_fitted():
    rng = np.random.default_rng(2)
    told = rng.dirichlet(np.full(S, 0.6), (1200, 3))
    true = recalibrate(torch.from_numpy(told).log().flatten(0, 1), Recalibration(2.0), "temperature")
    mean = true.view(1200, 3, S).mean(1).numpy()
    counts = np.stack([rng.multinomial(8, row / row.sum()) for row in mean])
    found = fit(of(told, counts, [f"{n}" for n in range(1200)]), "temperature")["a"]
    assert found.temperature == pytest.approx(2.0, rel=0.08)


def test_folds_do_not_see_their_own_prompts():
    """Each prompt has a temperature of its own: a fit that saw it would help, one that did not cannot."""
    rng = np.random.default_rng(3)
    told = rng.dirichlet(np.ones(S), 60)
    group = ["hot"] * 30 + ["cold"] * 30
    maps = {"hot": Recalibration(4.0), "cold": Recalibration(0.3)}
    true = np.array([plain_temperature(p, maps[g].temperature) for p, g in zip(told.tolist(), group, strict=True)])
    items = of(told[:, None], np.round(true * 1000), group)
    apart = cross_fitted(items, "temperature", folds=2)["a"].probs[:, 0]
    other = {"hot": maps["cold"], "cold": maps["hot"]}
    expected = [plain_temperature(p, other[g].temperature) for p, g in zip(told.tolist(), group, strict=True)]
    assert apart.numpy() == pytest.approx(np.array(expected), abs=0.02)


def test_too_few_ratings_and_one_prompt_are_told(probs):
    counts = np.ones((6, S))
    with pytest.raises(InputError, match=f"6 pictures are rated on 'a'; a calibration needs at least {FEWEST}"):
        fit(of(probs[:, None], counts, list("abcdef")), "temperature")
    with pytest.raises(InputError, match="all pictures have one prompt"):
        cross_fitted(of(probs[:, None], counts, ["p"] * 6), "temperature")
    with pytest.raises(InputError, match="kind 'platt' is unknown; expected one of temperature, ordinal"):
        fit({}, "platt")


def test_pairs_are_compared_by_who_rated_both():
    records = [
        Record("p", b"x", {"a": {"u": 1.0, "v": 2.0, "w": None}}),
        Record("p", b"y", {"a": {"u": 3.0, "v": 2.0, "w": 5.0}}),
        Record("p", b"z", {"a": [1.0, 5.0]}),
        Record("q", b"x", {"a": [1.0]}),
    ]
    probs = torch.from_numpy(np.random.default_rng(4).dirichlet(np.ones(S), (4, 1)))
    blank = torch.ones(4, 1)
    part = items_of(Predictions(probs, SCALE.bins, ("a",), blank, blank), records)["a"]
    assert part.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    # u prefers the second, v ties; ratings without names: each beside each.
    assert part.votes.tolist() == [[0, 1, 1], [1, 2, 1], [3, 2, 1]]
    expected = []
    for i, j in part.pairs.tolist():
        p, q = probs[i, 0].tolist(), probs[j, 0].tolist()
        expected.append(
            sum(p[s] * q[t] * (1.0 if s > t else 0.5 if s == t else 0.0) for s in range(S) for t in range(S))
        )
    assert pair_probabilities(part) == pytest.approx(expected)
    (row,) = calibration_rows({"a": part}, SCALE.bins)
    assert (row["n_items"], row["n_pairs"]) == (4, 3) and 0 <= row["preference_ece"] <= 1


@pytest.fixture
def folder(tmp_path):
    sharpen(tiny_model(), 4).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def made(kind: str = "temperature") -> Calibration:
    maps = {name: Recalibration(2.0 + n, 0.3 if kind == "ordinal" else 0.0) for n, name in enumerate(DIMENSIONS)}
    return Calibration(kind, maps, 0, {"data": "dev.jsonl"})


@pytest.mark.parametrize("kind", ["temperature", "ordinal"])
def test_scores_and_gradients_of_a_checkpoint_are_calibrated(folder, kind):
    pictures = noise_pictures(2)
    plain = RewardModel.from_pretrained(folder).score(pictures, "a red circle")
    before = json.loads((folder / META_FILE).read_text())
    record_calibrations(folder, "direct", made(kind))
    model = RewardModel.from_pretrained(folder)
    assert model.score(pictures, "a red circle").probs.numpy() == pytest.approx(
        made(kind)(plain).probs.numpy(), abs=1e-6
    )
    assert torch.equal(
        RewardModel.from_pretrained(folder, calibrated=False).score(pictures, "a red circle").probs, plain.probs
    )
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(pixels, "a red circle").mean.sum(), pixels)
    assert gradient.abs().sum() > 0
    model.save_pretrained(folder)  # it goes along
    assert RewardModel.from_pretrained(folder).calibrations == model.calibrations
    assert model.fingerprint() != RewardModel.from_pretrained(folder, calibrated=False).fingerprint()
    record_calibrations(folder, "direct", None)
    assert json.loads((folder / META_FILE).read_text()) == before
    with pytest.raises(InputError, match="has no calibration of direct scores to remove"):
        record_calibrations(folder, "direct", None)


def test_judgements_have_a_calibration_of_their_own(folder):
    pictures = noise_pictures(1)

    def judged() -> Judgement:
        model = RewardModel.from_pretrained(folder)
        torch.manual_seed(0)
        return model.judge(pictures, "a red circle", traces=2)[0]

    plain = judged()
    record_calibrations(folder, "direct", made())
    assert torch.equal(judged().distribution.probs, plain.distribution.probs)
    record_calibrations(folder, "reasoning", made())
    found = judged()
    for d, name in enumerate(DIMENSIONS):
        by = made().dimensions[name]
        each = recalibrate(plain.trace_distribution[:, d].log(), by, "temperature")
        torch.testing.assert_close(found.trace_distribution[:, d], each)
        torch.testing.assert_close(found.distribution.probs[0, d], each.mean(0))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            {"direct": {"kind": "temperature", "dimensions": {"a": {"temperature": 0}}}},
            "temperature is 0, expected a number",
        ),
        ({"direct": {"kind": "platt", "dimensions": {}}}, "platt"),
        ({"direct": {"kind": "ordinal", "dimensions": {"a": {"shift": float("nan")}}}}, "shift is nan"),
        (
            {"direct": {"kind": "ordinal", "dimensions": {"a": {"power": 1}}}},
            "expected temperature, shift and pair_scale",
        ),
        ({"sideways": {}}, "expected some of direct, reasoning"),
        ({"direct": []}, "expected kind and dimensions"),
    ],
)
def test_damaged_calibrations_are_told(stored, message):
    with pytest.raises(InputError, match=message):
        read_calibrations(stored)


def test_the_tables_are_whole_in_a_file_and_in_a_narrow_terminal():
    row = {column.key: 0.1234 for column in COLUMNS} | {
        "model": "before",
        "dimension": "plausibility",
        "n_items": 640,
        "n_pairs": 960,
    }
    for width in (80, 160):
        said = io.StringIO()
        print_calibration([row, row | {"model": "after"}], "Calibration", Console(file=said, width=width))
        assert said.getvalue().count("plausibility") == 4 and "…" not in said.getvalue()
        assert "80 %" in said.getvalue() and ("W1" in said.getvalue()) == (width == 160)
    said = io.StringIO()
    print_calibration([row | {"n_pairs": 0, "preference_ece": math.nan}], "Calibration", Console(file=said, width=80))
    assert "Pairs" not in said.getvalue() and "spread" in said.getvalue()
