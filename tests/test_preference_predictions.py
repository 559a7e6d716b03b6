"""What a model says about pairs of pictures, beside plain loops; the table, by numbers that can be checked by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.plain_model import small_model
from tests.tiny import COMPARISON, DIMENSIONS, noise_pictures
from tests.two_ranks import together
from zreward.common.errors import InputError
from zreward.common.jobs import Job
from zreward.data import Preference
from zreward.evaluation.prediction import Predictions
from zreward.evaluation.preference_prediction import (
    PreferencePredictions,
    answering,
    distinct_pictures,
    paired,
    predict_preferences,
)
from zreward.evaluation.preference_table import COLUMNS, captions, preference_rows, tie_thresholds, voted_pairs
from zreward.evaluation.tables import print_rows
from zreward.models.pairwise import comparing

PICTURES = noise_pictures(4, seed=5)
NAMES = ("realism", "alignment")
PAIRS = [(0, 1), (1, 2), (2, 0), (3, 3)]


def preferences() -> list[Preference]:
    prompts = ["a red circle"] * 3 + ["two blue squares"]
    return [Preference(p, (PICTURES[a], PICTURES[b]), "a") for p, (a, b) in zip(prompts, PAIRS, strict=True)]


def counted_pictures(model) -> list[int]:
    """Filled with the number of pictures of every pass."""
    passed: list[int] = []
    collate = model.collate

    def counted(images, *rest, **options):
        passed.append(len(images))
        return collate(images, *rest, **options)

    model.collate = counted
    return passed


def plain_win(p, q) -> float:
    """P(s > t) + P(s = t) / 2 over all pairs of bins."""
    return sum(
        float(x) * float(y) * (1.0 if s > t else 0.5 if s == t else 0.0)
        for s, x in enumerate(p)
        for t, y in enumerate(q)
    )


def check(said: PreferencePredictions, probs_NDS, bins) -> None:
    """`probs_NDS[n]` of the n-th picture under its prompt, as a plain loop over pairs, dimensions and bins compares them."""
    for n, (a, b) in enumerate(PAIRS):
        for d in range(len(NAMES)):
            left, right = probs_NDS[a][d], probs_NDS[b][d]
            assert said.prob[n, d].item() == pytest.approx(plain_win(left, right), abs=1e-6)
            gap = sum(float(s) * (float(x) - float(y)) for s, x, y in zip(bins, left, right, strict=True))
            assert said.gap[n, d].item() == pytest.approx(gap, abs=1e-5)


def test_pairs_are_compared_as_their_pictures_are_scored_each_once(float64):
    model = small_model(0)
    scored = model.score(PICTURES, ["a red circle"] * 3 + ["two blue squares"], NAMES)
    passed = counted_pictures(model)
    said = predict_preferences(model, preferences(), NAMES, progress=False)
    assert sum(passed) == 4, "eight sides, four pictures"
    check(said, scored.probs, model.rubric.scale.bins)
    assert said.gap[:3].abs().min() > 1e-3 and said.gap[3].abs().max() == 0
    assert said.prob[3].tolist() == pytest.approx([0.5, 0.5])
    assert (said.output_tokens == 1).all() and said.dimensions == NAMES and len(said) == 4


def test_traces_are_averaged_before_pictures_are_compared(float64):
    model = small_model(0)
    said = predict_preferences(model, preferences(), NAMES, True, traces=3, batch_size=2, seed=4, progress=False)
    torch.manual_seed(4)
    judged = []
    for batch in ([0, 1], [2, 3]):
        prompts = ["two blue squares" if n == 3 else "a red circle" for n in batch]
        judged += model.judge([PICTURES[n] for n in batch], prompts, 3, NAMES, 1.0, 2)
    check(said, [one.distribution.probs[0] for one in judged], model.rubric.scale.bins)
    tokens = [one.tokens.double().mean(0) + 1 for one in judged]
    assert torch.allclose(said.output_tokens[1].double(), (tokens[1] + tokens[2]) / 2)


def test_a_model_that_compares_is_asked_both_ways_each_once(float64):
    model = comparing(small_model(0), COMPARISON)
    passed = counted_pictures(model)
    wanted = []
    for a, b in PAIRS:
        prompt = ["two blue squares" if a == 3 else "a red circle"]
        one, other = (
            model.score([PICTURES[x]], prompt, NAMES, references=[PICTURES[y]]).mean[0] for x, y in ((a, b), (b, a))
        )
        wanted.append((one + 1 - other) / 2)
    passed.clear()
    twice = [*preferences(), preferences()[0]]
    said = predict_preferences(model, twice, NAMES, progress=False)
    assert sum(passed) == 2 * (2 * 3 + 1), "pictures of three pairs in two orders and of one with itself"
    assert torch.allclose(said.prob, torch.stack([*wanted, wanted[0]]), atol=1e-6)
    assert torch.allclose(said.gap, 2 * said.prob - 1, atol=1e-9)


def test_a_picture_of_two_prompts_is_asked_about_twice():
    same = (PICTURES[0], PICTURES[1])
    pictures, sides = distinct_pictures(
        [Preference("p", same, "a", group="g", split="test"), Preference("q", same[::-1])]
    )
    assert [(one.prompt, one.image is PICTURES[0]) for one in pictures] == [
        ("p", True),
        ("p", False),
        ("q", False),
        ("q", True),
    ]
    assert sides == [(0, 1), (2, 3)]
    assert (pictures[0].group, pictures[0].split) == ("g", "test")
    files = [Preference("p", ("a.png", "b.png")), Preference("p", ("b.png", "a.png"))]
    assert distinct_pictures(files)[1] == [(0, 1), (1, 0)]


def share_work(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(0)
    passed = counted_pictures(model)
    said = predict_preferences(model, preferences(), NAMES, batch_size=1, progress=False, job=Job(rank + 1, 2))
    torch.save({"gap": said.gap, "prob": said.prob, "passed": sum(passed)}, folder / f"{rank}.pt")


def test_two_processes_share_the_pictures(tmp_path, float64):
    together(share_work, tmp_path)
    alone = predict_preferences(small_model(0), preferences(), NAMES, progress=False)
    for rank in (0, 1):
        made = torch.load(tmp_path / f"{rank}.pt")
        assert torch.allclose(made["prob"], alone.prob, atol=1e-12) and made["passed"] == 2
        assert torch.allclose(made["gap"], alone.gap, atol=1e-12)


def test_answers_that_are_no_numbers_are_refused():
    model = small_model(0)
    with torch.no_grad():
        model.backbone.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(
        InputError, match=r"item 3 \('two blue squares'\), dimension 'realism': the model gives NaN or infinity"
    ):
        predict_preferences(model, preferences(), NAMES, progress=False)
    with pytest.raises(InputError, match="no preferences to evaluate"):
        predict_preferences(model, [], NAMES)


def voted(*names: str) -> list[Preference]:
    return [Preference("p", (PICTURES[0], PICTURES[1]), dict.fromkeys(names, "a"))]


@pytest.mark.parametrize(
    ("votes", "chosen", "answers"),
    [
        (("realism", "alignment"), None, {"alignment": ("alignment",), "realism": ("realism",)}),
        (("overall",), None, {"overall": DIMENSIONS}),
        (("overall", "realism"), None, {"realism": ("realism",), "overall": DIMENSIONS}),
        (("overall",), ("realism", "alignment"), {"overall": ("realism", "alignment")}),
        (("overall", "realism"), ("realism",), {"realism": ("realism",)}),
        (("beauty", "realism"), ("realism",), {"realism": ("realism",)}),
    ],
)
def test_who_answers_which_votes(votes, chosen, answers):
    found = answering(voted(*votes), DIMENSIONS, chosen)
    assert list(found.items()) == list(answers.items())


def test_votes_that_nobody_answers_are_refused():
    with pytest.raises(InputError, match="the votes are on 'beauty', but the model's dimensions are alignment"):
        answering(voted("beauty", "realism"), DIMENSIONS)
    with pytest.raises(InputError, match="no preference has votes on alignment; the votes are on realism"):
        answering(voted("realism"), DIMENSIONS, ("alignment",))
    assert answering(voted("overall"), ("overall", "realism")) == {"overall": ("overall",)}


def by_hand() -> tuple[PreferencePredictions, list[Preference]]:
    """Four pairs of three prompts; x has votes on three of them, y on two."""
    images = (PICTURES[0], PICTURES[1])
    rows = [
        Preference("p", images, {"x": {"r": "a", "s": "a", "t": "b"}, "y": "tie"}),
        Preference("p", images, {"x": {"r": "tie", "s": "b"}}),
        Preference("q", images, {"x": {"a": 0, "b": 4}}),
        Preference("other words", images, {"y": "a"}, group="q"),
    ]
    gap = torch.tensor([[1.0, 0.5], [-0.25, 9.0], [0.75, 9.0], [9.0, 1.5]])
    prob = torch.tensor([[0.75, 0.5], [0.25, 0.0], [0.75, 0.0], [0.0, 1.0]])
    tokens = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0], [7.0, 8.0]])
    cut = torch.tensor([[0.0, 0.5], [1.0, 0.5], [0.5, 0.5], [0.0, 0.0]])
    return PreferencePredictions(gap.double(), prob.double(), ("x", "y"), tokens, cut), rows


def test_rows_by_hand():
    said, rows = by_hand()
    pairs = voted_pairs(said, rows, {"x": ("x",), "y": ("y",)})
    assert list(pairs) == ["x", "y", "all"]
    x, y, pooled = preference_rows(pairs, {"x": 0.3}, resamples=0)
    # x: winners a, b, b; gaps say a, b, a. Votes 2:1, half a tie and b, 4 for b.
    assert x["accuracy"] == pytest.approx(2 / 3) and x["n_pairs"] == 3 and x["n_prompts"] == 2
    assert x["accuracy_with_ties"] == pytest.approx(1 / 3) and x["tie_threshold"] == 0.3  # the second one becomes a tie
    assert x["vote_agreement"] == pytest.approx((2 + 1 + 0) / 9)
    assert x["preference_brier"] == pytest.approx(((0.75 - 2 / 3) ** 2 + 0 + 0.75**2) / 3)
    nll = -(2 * math.log(0.75) + math.log(0.25)) - (0.5 * math.log(0.25) + 1.5 * math.log(0.75)) - 4 * math.log(0.25)
    assert x["preference_nll"] == pytest.approx(nll / 9)
    # Only t's vote has others with a majority: two for a.
    assert x["human_ceiling"] == pytest.approx(0.0)
    assert (x["output_tokens"], x["truncated"]) == (3.0, 0.5)
    assert y["accuracy"] == 1.0 and math.isnan(y["accuracy_with_ties"]) and math.isnan(y["human_ceiling"])
    assert (pooled["dimension"], pooled["n_pairs"], pooled["n_prompts"]) == ("all", 5, 2)
    assert pooled["accuracy"] == pytest.approx(3 / 4) and pooled["vote_agreement"] == pytest.approx(4 / 11)
    assert "accuracy_low" not in x
    assert set(x) == {"dimension", *(column.key for column in COLUMNS)}


def test_a_mean_of_dimensions_answers_with_all_of_their_tokens():
    said, rows = by_hand()
    overall = [Preference(one.prompt, one.images, "a", group=one.group) for one in rows]
    found = voted_pairs(said, overall, {"overall": ("x", "y")})["overall"]
    assert found.gap.tolist() == [0.75, 4.375, 4.875, 5.25] and found.prob.tolist() == [0.625, 0.125, 0.375, 0.5]
    assert found.output_tokens.tolist() == [3.0, 5.0, 7.0, 15.0] and found.truncated.tolist() == [0.25, 0.75, 0.5, 0.0]
    with pytest.raises(ValueError, match="4 predictions for 3 preferences"):
        voted_pairs(said, rows[:3], {"x": ("x",)})


def test_a_threshold_is_that_of_its_own_row():
    said, rows = by_hand()
    pairs = voted_pairs(said, rows, {"x": ("x",), "y": ("y",)})
    # x has no tie among its verdicts; y's first pair is one, at a gap of 0.5; of all five that threshold costs one right answer.
    assert tie_thresholds(pairs) == {"x": 0.0, "y": 0.5, "all": 0.0}


def test_intervals_are_over_prompts_and_stand_in_the_cells():
    said, rows = by_hand()
    x, y, _ = preference_rows(voted_pairs(said, rows, {"x": ("x",), "y": ("y",)}), resamples=200)
    # Of prompts p (two right) and q (one wrong): both twice are 1 and 0.
    assert (x["accuracy"], x["accuracy_low"], x["accuracy_high"]) == (pytest.approx(2 / 3), 0.0, 1.0)
    out = io.StringIO()
    print_rows(
        [x, y], COLUMNS, "Votes", *captions({"x": ("x",), "overall": ("x", "y")}), console=Console(file=out, width=150)
    )
    text = " ".join(out.getvalue().split())
    assert "0.667" in text and "0.000–1.000" in text and "'overall' is answered by the mean of x, y" in text


def test_intervals_draw_whole_prompts_by_the_seed():
    """Twelve prompts with ten pairs each, all right or all wrong: as uncertain as twelve pairs, not as 120."""
    rows = [Preference(f"p{n // 10}", (PICTURES[0], PICTURES[1]), {"x": "a"}) for n in range(120)]
    gap = torch.tensor([[1.0 if n // 10 % 2 else -1.0] for n in range(120)]).double()
    plain = torch.zeros(120, 1)
    said = PreferencePredictions(gap, (1 + gap) / 2, ("x",), plain, plain)
    pairs = voted_pairs(said, rows, {"x": ("x",)})
    ends = [preference_rows(pairs, resamples=40, seed=seed)[0] for seed in range(5)]
    widths = [row["accuracy_high"] - row["accuracy_low"] for row in ends]
    assert min(widths) > 0.3, "of 120 single pairs they would be 0.18"
    assert len({(row["accuracy_low"], row["accuracy_high"]) for row in ends}) > 1, "the seed is not used"


def test_two_raters_are_a_ceiling():
    votes = [{"r": "a", "s": "a"}, {"r": "a", "s": "b"}, {"r": "b", "s": "b"}, {"r": "b", "s": "b"}]
    rows = [Preference("p", (PICTURES[0], PICTURES[1]), {"x": one}) for one in votes]
    plain = torch.zeros(4, 1)
    said = PreferencePredictions(plain.double(), plain.double() + 0.5, ("x",), plain, plain)
    row = preference_rows(voted_pairs(said, rows, {"x": ("x",)}), resamples=0)[0]
    assert row["human_ceiling"] == pytest.approx(6 / 8)


def test_greedy_traces_do_not_depend_on_the_seed():
    model = small_model(0)
    asked = [
        predict_preferences(model, preferences(), NAMES, True, seed=seed, progress=False, temperature=temperature).gap
        for temperature in (0.0, 1.0)
        for seed in (1, 2)
    ]
    assert torch.equal(asked[0], asked[1]) and not torch.equal(asked[2], asked[3])


def test_pairs_follow_their_sides():
    probs = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.5]], [[0.0, 1.0, 0.0]]])
    said = Predictions(
        probs, torch.tensor([1.0, 2.0, 3.0]), ("x",), torch.ones(3, 1), torch.tensor([[0.0], [0.5], [1.0]])
    )
    found = paired(said, [(1, 0), (1, 2), (0, 2)])
    assert found.output_tokens[:, 0].tolist() == [1.0] * 3 and found.truncated[:, 0].tolist() == [0.25, 0.75, 0.5]
    assert found.gap[:, 0].tolist() == [1.5, 0.5, -1.0] and found.prob[:, 0].tolist() == [1.0, 0.75, 0.0]
