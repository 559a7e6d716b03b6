from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution, ScoreScale, split_spread

THREE = torch.tensor([1.0, 2.0, 3.0])


def dist(*rows: list[float]) -> ScoreDistribution:
    """One dimension, bins 1, 2, 3."""
    return ScoreDistribution(torch.tensor(rows).unsqueeze(1), THREE, ("a",))


def test_default_scale_has_nine_half_point_bins():
    scale = ScoreScale()
    assert scale.bins.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]
    assert len(scale) == 9 and scale.range == 4.0 and scale.bins.dtype == torch.float32
    assert ScoreScale.from_dict(json.loads(json.dumps(scale.to_dict()))) == scale


@pytest.mark.parametrize(
    "kwargs", [{"min": 5, "max": 1}, {"step": 0}, {"step": 0.7}, {"max": math.inf}, {"min": "1"}, {"step": True}]
)
def test_bad_scales_are_refused(kwargs):
    with pytest.raises(InputError, match="score scale"):
        ScoreScale(**kwargs)


def test_unknown_scale_key_is_refused():
    with pytest.raises(InputError, match="keys min, max, step"):
        ScoreScale.from_dict({"minimum": 1})


@pytest.mark.parametrize("score", [7, 0.99, math.nan, math.inf, "3", None, True])
def test_validate_refuses(score):
    with pytest.raises(InputError, match="realism"):
        ScoreScale().validate(score, "realism")


def test_validate_accepts_numbers_on_and_between_bins():
    assert ScoreScale().validate(np.float32(1.25)) == 1.25
    assert ScoreScale().validate(np.int64(5)) == 5.0
    assert ScoreScale().validate(5 + 1e-9) == 5.0  # noise of an affine map, not a score off the scale


@pytest.mark.parametrize("k", range(9))
def test_soft_target_is_exactly_one_hot_on_a_bin(k):
    assert ScoreScale().soft_target(1 + k / 2).tolist() == [float(i == k) for i in range(9)]


def test_soft_target_on_a_bin_of_an_inexact_step():
    # 0.1 + 0.2 is not 0.3 in floating point, yet it is the bin.
    assert ScoreScale(0, 1, 0.1).soft_target(0.1 + 0.2).tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_soft_target_between_bins_keeps_the_expectation():
    scale = ScoreScale()
    # 3.2 is 0.2 / 0.5 = 0.4 of the way from 3.0 to 3.5.
    assert scale.soft_target(3.2)[4:6].tolist() == pytest.approx([0.6, 0.4], abs=1e-6)
    for score in np.linspace(1, 5, 83):
        assert float(scale.soft_target(float(score)) @ scale.bins) == pytest.approx(score, abs=1e-5)


def test_histogram_is_the_raters_share_per_bin():
    # Three raters: 4, 4, 3 -> 2/3 on bin 4.0 (index 6), 1/3 on bin 3.0 (index 4).
    target = ScoreScale().histogram([4, 4, 3])
    assert target[6].item() == pytest.approx(2 / 3) and target[4].item() == pytest.approx(1 / 3)
    assert target.sum().item() == pytest.approx(1)


def test_histogram_smoothing_by_hand_and_at_the_edge():
    # Bins 1, 2, 3 and sigma 1: the row of score 1 is (1, e^-1/2, e^-2) / (1 + e^-1/2 + e^-2).
    row = np.exp([0, -0.5, -2.0])
    assert ScoreScale(1, 3, 1).histogram([1], smoothing=1.0).tolist() == pytest.approx(row / row.sum(), abs=1e-6)
    assert ScoreScale(1, 3, 1).histogram([1], smoothing=1e-3).tolist() == pytest.approx([1, 0, 0])


def test_histogram_refuses_nothing_and_bad_smoothing():
    with pytest.raises(InputError, match="at least one rating"):
        ScoreScale().histogram([])
    with pytest.raises(InputError, match="smoothing"):
        ScoreScale().histogram([3], smoothing=-1)


def test_moments_by_hand():
    d = dist([0.25, 0.5, 0.25], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5])
    assert d.mean[:, 0].tolist() == [2.0, 3.0, 2.0]
    # Variances: .25 + .25 = .5; 0; .5 + .5 = 1.
    assert d.std[:, 0].tolist() == pytest.approx([math.sqrt(0.5), 0.0, 1.0])
    # Entropies: 2 * .25 ln 4 + .5 ln 2 = 1.5 ln 2; 0; ln 2.
    assert d.entropy[:, 0].tolist() == pytest.approx([1.5 * math.log(2), 0.0, math.log(2)])
    assert torch.isfinite(d.log_probs).all()


def test_quantile_is_the_smallest_bin_reaching_q():
    d = dist([0.25, 0.25, 0.5])
    assert [d.quantile(q).item() for q in (0.0, 0.2, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 1, 2, 3, 3]
    with pytest.raises(ValueError, match="from 0 to 1"):
        d.quantile(50)


def test_prefers_by_hand_and_by_loop():
    # P(>) = .5 * 1 (3 beats 2) + .5 * 0 (2 ties 2); ties .5 -> .5 + .25 = .75
    assert dist([0, 0.5, 0.5]).prefers(dist([0.0, 1.0, 0.0])).item() == pytest.approx(0.75)
    torch.manual_seed(0)
    a, b = (ScoreDistribution.from_logits(torch.randn(4, 2, 5), torch.arange(5.0), ("x", "y")) for _ in range(2))
    for n in range(4):
        for k in range(2):
            p, q = a.probs[n, k], b.probs[n, k]
            loop = sum(p[i] * q[j] * (1.0 if i > j else 0.5 if i == j else 0.0) for i in range(5) for j in range(5))
            assert a.prefers(b)[n, k].item() == pytest.approx(float(loop), abs=1e-6)
    assert torch.allclose(a.prefers(b) + b.prefers(a), torch.ones(4, 2))
    assert a.prefers(b[0]).shape == (4, 2)
    with pytest.raises(ValueError, match="4 items against 2"):
        a.prefers(b[:2])


def test_from_logits_is_float32_and_keeps_gradients():
    logits = torch.tensor([[[0.0, math.log(2), 0.0]]], dtype=torch.bfloat16, requires_grad=True)
    d = ScoreDistribution.from_logits(logits, THREE, ["a"])
    assert d.probs.dtype == torch.float32
    assert d.probs[0, 0].tolist() == pytest.approx([0.25, 0.5, 0.25], abs=1e-2)
    d.mean.sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert not d.detach().probs.requires_grad


def test_gradients_match_finite_differences():
    logits = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)

    def read(x):
        d = ScoreDistribution.from_logits(x, THREE, ("a",))
        return d.mean, d.std, d.entropy, d.prefers(d[:1])

    assert torch.autograd.gradcheck(read, (logits,))


def test_one_hot_has_finite_gradients():
    probs = torch.tensor([[[1.0, 0.0, 0.0]]], requires_grad=True)
    d = ScoreDistribution(probs, THREE, ("a",))
    (d.std + d.entropy + d.mean).sum().backward()
    assert torch.isfinite(probs.grad).all()


def test_indexing_cat_select_and_dicts():
    d = ScoreDistribution.from_logits(torch.randn(5, 2, 3), THREE, ("a", "b"))
    assert (
        len(d) == 5
        and len(d[1]) == 1
        and len(d[-2:]) == 2
        and len(d[[0, 3]]) == 2
        and len(d[np.int64(4)]) == 1
        and len(list(d)) == 5
    )
    assert torch.equal(ScoreDistribution.cat([d[:2], d[2], d[3:]]).probs, d.probs)
    assert torch.equal(d.select(["b"]).probs[:, 0], d.probs[:, 1])
    row = json.loads(json.dumps(d.to_dicts()))[4]["b"]
    assert row["mean"] == pytest.approx(d.mean[4, 1].item()) and len(row["probs"]) == 3
    assert d.to("cpu").dimensions == ("a", "b")
    with pytest.raises(IndexError):
        d[5]
    with pytest.raises(ValueError, match="expected a list of names"):
        d.select(["c"])
    with pytest.raises(ValueError, match="different dimensions"):
        ScoreDistribution.cat([d, d.select(["a"])])
    with pytest.raises(ValueError, match="different bins"):
        d.prefers(ScoreDistribution(d.probs, THREE + 1, ("a", "b")))
    with pytest.raises(ValueError, match="no score distributions"):
        ScoreDistribution.cat([])


def test_shapes_and_probabilities_are_checked():
    good = torch.tensor([[[0.2, 0.3, 0.5]]])
    with pytest.raises(ValueError, match=r"expected probs \[N, D, S\]"):
        ScoreDistribution(good[0], THREE, ("a",))
    with pytest.raises(ValueError, match=r"expected probs \[N, D, S\]"):
        ScoreDistribution(good, THREE[:2], ("a",))
    with pytest.raises(ValueError, match="repeated"):
        ScoreDistribution(good.repeat(1, 2, 1), THREE, ("a", "a"))
    with pytest.raises(ValueError, match="bins must rise"):
        ScoreDistribution(good, THREE.flip(0), ("a",))
    for bad in (torch.tensor([[[math.nan, 0.5, 0.5]]]), good * 2, torch.tensor([[[-0.5, 0.5, 1.0]]])):
        with pytest.raises(ValueError, match="item 0, dimension 'a'"):
            ScoreDistribution(bad, THREE, ("a",))
    with pytest.raises(ValueError, match="NaN or infinity"):
        ScoreDistribution.from_logits(torch.full((1, 1, 3), math.nan), THREE, ("a",))


@pytest.fixture
def two_items() -> ScoreDistribution:
    probs = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0], [0.25, 0.5, 0.25]]])
    return ScoreDistribution(probs, torch.tensor([1.0, 3.0, 5.0]), ("light", "hands"))


TITLE = "expected scores from 1 to 5 ± standard deviation"


def test_it_prints_right_aligned_columns_of_the_first_ten_items(two_items):
    item = "  5.00 ± 0.00  3.00 ± 1.41"
    lines = [f"ScoreDistribution: 1 item, {TITLE}", "         light        hands", f"0{item}"]
    assert repr(two_items[1]).splitlines() == lines
    many = ScoreDistribution.cat([two_items[1]] * 1100)
    numbered = [f"{n:3}{item}" for n in range(10)]
    lines = [f"ScoreDistribution: 1,100 items, {TITLE}", "           light        hands", *numbered]
    assert repr(many).splitlines() == [*lines, "..."]
    assert repr(many[:10]).splitlines()[2:] == [line[2:] for line in numbered]
    assert repr(many[:0]).splitlines() == [f"ScoreDistribution: 0 items, {TITLE}", "  light  hands"]


def test_the_page_of_a_notebook(two_items):
    rows = "<tr><td>0</td><td>5.00 ± 0.00</td><td>3.00 ± 1.41</td></tr>"
    head = "<thead><tr><td></td><td>light</td><td>hands</td></tr></thead>"
    title = f"<caption>ScoreDistribution: 1 item, {TITLE}</caption>"
    assert two_items[1]._repr_html_() == f"<table>{title}{head}<tbody>{rows}</tbody></table>"
    second = "<tr><td>1</td><td>5.00 ± 0.00</td><td>3.00 ± 1.41</td></tr>"
    assert f"{rows}{second}</tbody>" in ScoreDistribution.cat([two_items[1]] * 2)._repr_html_()


def test_it_prints_as_a_table(two_items):
    title, head, first, second = repr(two_items).splitlines()
    assert title == "ScoreDistribution: 2 items, expected scores from 1 to 5 ± standard deviation"
    assert head.split() == ["light", "hands"]
    assert first.split() == ["0", "3.00", "±", "2.00", "3.00", "±", "0.00"]
    assert second.split() == ["1", "5.00", "±", "0.00", "3.00", "±", "1.41"]
    lines = repr(ScoreDistribution.cat([two_items] * 20)).splitlines()
    assert "40 items" in lines[0] and len(lines) == 13 and lines[-1] == "..."


def test_a_notebook_shows_a_table_with_names_escaped(two_items):
    odd = ScoreDistribution(two_items.probs, two_items.bins, ("<b>", "hands"))
    page = odd._repr_html_()
    assert "<td>&lt;b&gt;</td>" in page and "<b>" not in page
    assert page.count("<tr>") == 3 and "3.00 ± 2.00" in page


def test_plain_numbers_and_a_data_frame(two_items):
    plain = two_items.to_dict()
    assert list(plain) == ["dimensions", "bins", "mean", "std", "probs"]
    assert plain["mean"] == [[3.0, 3.0], [5.0, 3.0]] and plain["probs"][1][1] == [0.25, 0.5, 0.25]
    assert plain["bins"] == [1.0, 3.0, 5.0]
    frame = two_items.to_pandas()
    assert list(frame.columns) == ["item", "dimension", "mean", "std", "1", "3", "5"]
    assert frame[["item", "dimension"]].values.tolist() == [[0, "light"], [0, "hands"], [1, "light"], [1, "hands"]]
    assert frame.loc[3, ["1", "3", "5"]].tolist() == [0.25, 0.5, 0.25]
    assert frame["mean"].tolist() == [3.0, 3.0, 5.0, 3.0]
    assert frame["std"].tolist() == pytest.approx([2.0, 0.0, 0.0, math.sqrt(2)])
    assert list(two_items[:0].to_pandas().columns) == list(frame.columns)
    assert plain["dimensions"] == ["light", "hands"]


def test_without_pandas_it_says_so(two_items, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        two_items.to_pandas()


def test_the_spread_of_a_mean_over_traces_has_two_parts():
    """Beside plain loops; a program that pools the traces first, or divides by K - 1, is another."""
    probs = torch.rand(3, 4, 5, dtype=torch.float64).softmax(-1)
    bins = torch.tensor([1.0, 2.0, 3.5, 4.0, 5.0], dtype=torch.float64)
    within, between = split_spread(probs, bins)
    for item, traces in enumerate(probs.tolist()):
        means = [sum(p * b for p, b in zip(trace, bins.tolist(), strict=True)) for trace in traces]
        variances = [
            sum(p * (b - mean) ** 2 for p, b in zip(trace, bins.tolist(), strict=True))
            for trace, mean in zip(traces, means, strict=True)
        ]
        centre = sum(means) / 4
        assert within[item].item() == pytest.approx((sum(variances) / 4) ** 0.5)
        assert between[item].item() == pytest.approx((sum((mean - centre) ** 2 for mean in means) / 4) ** 0.5)
    pooled = ScoreDistribution(probs.mean(1)[:, None], bins, ("a",)).std[:, 0]
    torch.testing.assert_close(within.square() + between.square(), pooled.square())


def test_a_calibrated_comparison_scales_the_logit_of_independent_draws():
    probs = torch.tensor([[[0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]], dtype=torch.float64)
    scales = torch.tensor([1.5, 0.7], dtype=torch.float64)
    plain = ScoreDistribution(probs, torch.arange(3.0), ("a", "b"))
    scaled = ScoreDistribution(probs, torch.arange(3.0), ("a", "b"), scales)
    chance, found = plain[0].prefers(plain[1]), scaled[0].prefers(scaled[1])
    for d, scale in enumerate((1.5, 0.7)):
        odds = (chance[0, d].item() / (1 - chance[0, d].item())) ** scale
        assert found[0, d].item() == pytest.approx(odds / (1 + odds))
    assert scaled[1].prefers(scaled[0]).tolist() == [pytest.approx([1 - p for p in found[0].tolist()])]
    assert scaled.select(["b"])[:1].prefers(scaled.select(["b"])[1:]).tolist() == [[pytest.approx(found[0, 1].item())]]
    joined = ScoreDistribution.cat([scaled[0], scaled[1]]).detach()
    assert joined.pair_scale is not None and joined.pair_scale.tolist() == [1.5, 0.7]
    with pytest.raises(ValueError, match="different calibrations"):
        plain.prefers(scaled)
    with pytest.raises(ValueError, match="pair_scale"):
        ScoreDistribution(probs, torch.arange(3.0), ("a", "b"), torch.tensor([1.0, 0.0]))
