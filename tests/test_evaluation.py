"""Predictions, the metrics table by hand-checkable numbers, and evaluation of a real (untrained) model."""

from __future__ import annotations

import io
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.tiny import DIMENSIONS, noise_pictures, tiny_model, tiny_rubric
from zreward.common.errors import InputError
from zreward.common.files import write_json
from zreward.data.record import Record
from zreward.distribution import ScoreScale
from zreward.evaluation.prediction import Predictions, evaluate, metrics_table, predict, print_table

SCALE = ScoreScale(1, 3, 1)
PIXEL = Image.new("RGB", (4, 4))
KEYS = ["dimension", "plcc", "srcc", "hpa", "margin_hpa", "tie_rate", "nll", "crps", "ece"]
KEYS += ["output_tokens", "truncated", "n_items", "n_pairs"]


def predictions(probs: list, dimensions: tuple[str, ...] = ("a",), tokens: float = 1.0) -> Predictions:
    probs_NDS = torch.tensor(probs)
    shape = probs_NDS.shape[:2]
    return Predictions(probs_NDS, SCALE.bins, dimensions, torch.full(shape, tokens), torch.zeros(shape))


def record(prompt: str, **scores) -> Record:
    return Record(prompt, PIXEL, scores)


def test_mean_and_scale():
    made = predictions([[[0.5, 0.5, 0.0]], [[0.0, 0.25, 0.75]]])
    assert made.mean.tolist() == [[1.5], [2.75]]
    assert made.scale == SCALE and len(made) == 2


def test_row_by_hand():
    # Prompt p: people 1 < 2 < 3; expected scores 1.5, 1.0, 2.5 order two of the three pairs. All human gaps are 1 or
    # more, so margin HPA is the same.
    made = predictions([[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.5]]])
    rows = metrics_table(made, [record("p", a=1.0), record("p", a=2.0), record("p", a=3.0)])
    assert [row["dimension"] for row in rows] == ["a", "all"] and list(rows[0]) == KEYS
    row = rows[0]
    assert row["hpa"] == row["margin_hpa"] == pytest.approx(2 / 3)
    assert (row["tie_rate"], row["n_items"], row["n_pairs"]) == (0.0, 3, 3)
    # Ranks 2, 1, 3 against 1, 2, 3: 1 - 6 * 2 / (3 * 8) = 0.5.
    assert row["srcc"] == pytest.approx(0.5)
    # Deviations (-1/6, -2/3, 5/6) and (-1, 0, 1): (1/6 + 5/6) / sqrt(42/36 * 2).
    assert row["plcc"] == pytest.approx(1 / math.sqrt(42 / 36 * 2))
    # The second item gave its rating probability 0, counted as float32's smallest normal number: 87.34 nats.
    assert row["nll"] == pytest.approx((2 * math.log(2) + -math.log(torch.finfo(torch.float32).tiny)) / 3)
    # Squared distance of the cumulated (.5, 1) from (1, 1), (1, 1) from (0, 1), (0, .5) from (0, 0).
    assert row["crps"] == pytest.approx((0.25 + 1.0 + 0.25) / 3)
    # Predictions 0.5 or more apart fall into own bins: mean of |0.5|, |-1|, |-0.5|.
    assert row["ece"] == pytest.approx(2 / 3)
    assert {**rows[1], "dimension": "a"} == row


def test_ground_truth_is_trimmed_mean_and_counts_are_ratings():
    # Trimmed: 2 and 1; the means, 2.0 and 2.0, would be a tie and no pair.
    made = predictions([[[0.2, 0.3, 0.5]], [[0.7, 0.2, 0.1]]])
    rows = metrics_table(made, [record("p", a=[1.0, 2.0, 3.0]), record("p", a=[1.0, 1.0, 3.0, 1.0])])
    assert (rows[0]["hpa"], rows[0]["n_pairs"]) == (1.0, 1)
    by_hand = -(math.log(0.2) + math.log(0.3) + math.log(0.5) + 3 * math.log(0.7) + math.log(0.1)) / 7
    assert rows[0]["nll"] == pytest.approx(by_hand, rel=1e-5)


def test_pooled_row_pairs_inside_prompt_and_dimension():
    probs = [[[1.0, 0, 0], [0, 0, 1.0]], [[0, 1.0, 0], [0, 1.0, 0]], [[0, 0, 1.0], [1.0, 0, 0]]]
    made = predictions(probs, ("a", "b"))
    # a: prompt p holds one pair, ordered rightly. b: one pair (p), predicted 3 against 2, people 1 against 2: wrong.
    records = [record("p", a=1.0, b=1.0), record("p", a=3.0, b=2.0), record("q", a=3.0)]
    rows = metrics_table(made, records)
    assert [(r["dimension"], r["n_items"], r["n_pairs"], r["hpa"]) for r in rows] == [
        ("a", 3, 1, 1.0),
        ("b", 2, 1, 0.0),
        ("all", 5, 2, 0.5),
    ]


def test_margin_is_above_half_a_point_and_ties_are_wrong():
    scale = ScoreScale()
    probs = torch.stack([scale.soft_target(s) for s in (2.0, 3.0, 3.0)])[:, None]
    made = Predictions(probs, scale.bins, ("a",), torch.ones(3, 1), torch.zeros(3, 1))
    # Pairs: (2, 2.5) gap .5, right; (2, 3.5) gap 1.5, right; (2.5, 3.5) gap 1, predicted tie.
    row = metrics_table(made, [record("p", a=2.0), record("p", a=2.5), record("p", a=3.5)])[0]
    assert (row["n_pairs"], row["hpa"], row["tie_rate"]) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert row["margin_hpa"] == 0.5


def test_aggregate_with_spread_counts_as_one_synthetic_rating():
    made = predictions([[[0.2, 0.6, 0.2]], [[0.5, 0.3, 0.2]]])
    rows = metrics_table(made, [Record("p", PIXEL, {"a": 2.0}, stds={"a": 0.7}), record("p", a=1.0)])
    target = Record("p", PIXEL, {"a": 2.0}, stds={"a": 0.7}).target("a", SCALE).tolist()
    by_hand = -(target[0] * math.log(0.2) + target[1] * math.log(0.6) + target[2] * math.log(0.2) + math.log(0.5)) / 2
    assert rows[0]["nll"] == pytest.approx(by_hand, rel=1e-5)


def test_undefined_is_nan_and_null_in_json(tmp_path):
    made = predictions([[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0]]])
    with pytest.warns(RuntimeWarning, match="constant"):
        rows = metrics_table(made, [record("p", a=1.0), record("q", a=2.0)])
    assert math.isnan(rows[0]["plcc"]) and math.isnan(rows[0]["hpa"]) and rows[0]["n_pairs"] == 0
    write_json(tmp_path / "new" / "metrics.json", rows)
    read = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert read[0]["plcc"] is None and read[0]["hpa"] is None and read[0]["n_items"] == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["metrics.json"]


def test_refuses_nan_wrong_shapes_and_unrated():
    with pytest.raises(InputError, match="prediction 1, dimension 'a'.*nan.*1 such of 2"):
        predictions([[[0.5, 0.5, 0.0]], [[math.nan, 0.5, 0.5]]])
    with pytest.raises(ValueError, match="expected"):
        Predictions(torch.ones(2, 1, 3) / 3, SCALE.bins, ("a",), torch.ones(1, 1), torch.zeros(2, 1))
    made = predictions([[[0.5, 0.5, 0.0]]])
    with pytest.raises(InputError, match="none of the 1 records is rated on a"):
        metrics_table(made, [record("p", b=1.0)])
    with pytest.raises(ValueError, match="1 predictions for 2 records"):
        metrics_table(made, [record("p", a=1.0)] * 2)
    with pytest.raises(InputError, match="'p'.*off the scale"):
        metrics_table(made, [record("p", a=5.0)])


def test_table_states_the_scale():
    rows = [{"dimension": "all", "model": "small", "method": "risd [x]", "hpa": 0.81234, "plcc": None, "n_pairs": 12}]
    out = io.StringIO()
    print_table(rows, "Test set", SCALE, Console(file=out, width=120))
    text = " ".join(out.getvalue().split())
    assert "from 1 to 3 in steps of 1" in text and "0.812" in text and "–" in text and "risd [x]" in text
    assert "margin HPA:" in text and "SRCC" not in text


def test_narrow_table_drops_columns_instead_of_cutting_numbers():
    row = dict.fromkeys(KEYS, 0.12345) | {"dimension": "plausibility", "n_items": 960, "n_pairs": 1320}
    out = io.StringIO()
    print_table([row, row | {"dimension": "all"}], "Test set", SCALE, Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text and "plausibility" in text and "1320" in text and text.count("0.123") >= 12
    assert "Hidden, the terminal is too narrow: items" in " ".join(text.split())


@pytest.fixture(scope="module")
def model():
    return tiny_model(trace_tokens=40)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Three prompts, two pictures of each, four raters."""
    rng, bins = random.Random(0), tiny_rubric().scale.bins.tolist()
    pictures = noise_pictures(6)
    scores = [{name: {rater: rng.choice(bins) for rater in "abcd"} for name in DIMENSIONS} for _ in pictures]
    return [Record(f"{['one', 'two', 'three'][n // 2]} circles", pictures[n], scores[n]) for n in range(6)]


def test_direct_matches_score_and_keeps_mode_and_random_state(model, records):
    model.train()
    state = torch.random.get_rng_state()
    made = predict(model, records, batch_size=4, progress=False)
    assert model.training and torch.equal(torch.random.get_rng_state(), state)
    score = model.score([r.image for r in records], [r.prompt for r in records])
    assert torch.allclose(made.probs, score.probs, atol=1e-5)
    assert made.dimensions == DIMENSIONS and (made.output_tokens == 1).all() and made.seconds > 0
    model.eval()


def test_reasoning_is_seeded_and_leaves_the_random_state(model, records, monkeypatch):
    monkeypatch.setattr(model, "max_trace_tokens", 8)
    options = {"dimensions": ["realism"], "reasoning": True, "traces": 2, "batch_size": 2, "progress": False}
    state = torch.random.get_rng_state()
    first, again = (predict(model, records[:3], seed=5, **options) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    other = predict(model, records[:3], seed=6, **options)
    assert torch.equal(first.probs, again.probs) and not torch.equal(first.probs, other.probs)
    assert first.probs.shape == (3, 1, 9) and first.truncated.shape == (3, 1)
    # Cut off: the budget of 8 tokens was used up; the label is one more. An untrained model hardly ever stops.
    cut = first.truncated == 1
    assert cut.any() and (first.output_tokens[cut] == 9).all()
    assert ((first.output_tokens > 1) & (first.output_tokens <= 9)).all()


def test_greedy_traces_do_not_depend_on_the_seed(model, records):
    options = {"reasoning": True, "temperature": 0, "progress": False}
    first, other = (predict(model, records[:2], seed=seed, **options) for seed in (5, 6))
    assert torch.equal(first.probs, other.probs)


def test_evaluate_rows(model, records):
    some = [replace(r, scores={k: v for k, v in r.scores.items() if k != "realism"}) for r in records]
    rows = evaluate(model, some, progress=False)
    assert [row["dimension"] for row in rows] == ["alignment", "aesthetics", "plausibility", "all"]
    assert rows[-1]["n_items"] == 18 and rows[-1]["n_pairs"] == sum(row["n_pairs"] for row in rows[:-1])
    assert [row["dimension"] for row in evaluate(model, records, ["realism"], progress=False)] == ["realism", "all"]


def test_bad_records_are_refused_before_any_scoring(model, records):
    with pytest.raises(InputError, match="rate 'beauty'.*alignment.*checkpoint of another rubric"):
        evaluate(model, [*records, record("p", beauty=3.0)], progress=False)
    with pytest.raises(InputError, match="record x7: score of 'realism' 7 is off the scale 1 to 5"):
        evaluate(model, [Record("p", PIXEL, {"realism": 7.0}, id="x7")], progress=False)
    with pytest.raises(InputError, match="no records"):
        predict(model, [], progress=False)
    with pytest.raises(InputError, match="none of the 1 records is rated"):
        evaluate(model, [record("p")], progress=False)
    with pytest.raises(InputError, match="unknown dimension 'colour'"):
        evaluate(model, records, ["colour"], progress=False)


def test_nan_weights_are_an_input_error(records):
    broken = tiny_model(trace_tokens=40)
    with torch.no_grad():
        next(broken.backbone.parameters()).fill_(math.nan)
    for reasoning in (False, True):
        with pytest.raises(InputError, match=r"item 0.*, dimension 'realism': the model gives NaN"):
            predict(broken, records[:2], ["realism"], reasoning=reasoning, progress=False)
