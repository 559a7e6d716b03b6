"""Score scales and distributions at their limits: ends, tolerances, number types, devices, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from zreward.common.errors import InputError, NotFiniteError
from zreward.distribution import ScoreDistribution, ScoreScale

THREE = torch.tensor([1.0, 2.0, 3.0])


def dist(*rows: list[float], dtype: torch.dtype = torch.float32) -> ScoreDistribution:
    """One dimension, bins 1, 2, 3."""
    return ScoreDistribution(torch.tensor(rows, dtype=dtype).unsqueeze(1), THREE, ("a",))


# --- scales


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"min": 2, "max": 2}, "expected min < max"),
        ({"step": -0.5}, "step > 0"),
        ({"min": math.nan}, "min is nan"),
        ({"min": 10**400}, "expected a finite number"),
        ({"max": True}, "max is True"),
        ({"min": 0, "max": 256, "step": 1}, "more than 256 bins"),
        ({"min": 0, "max": 1e300, "step": 1e-300}, "more than 256 bins"),
        ({"min": 0, "max": 10, "step": 4}, "equal steps"),
        ({"min": 0, "max": 10, "step": 3.3333}, "equal steps"),
    ],
)
def test_scales_that_are_refused(kwargs, message):
    with pytest.raises(InputError, match=message):
        ScoreScale(**kwargs)


def test_scales_that_are_fine():
    assert len(ScoreScale(0, 255, 1)) == 256
    assert len(ScoreScale(-1, 1, 2)) == 2 and ScoreScale(-1, 1, 2).range == 2.0
    assert len(ScoreScale(0, 1, 1 / 3)) == 4  # a third is no binary fraction
    whole = ScoreScale(np.int64(1), np.float32(3), 1)
    assert [type(value) for value in (whole.min, whole.max, whole.step)] == [float] * 3
    assert ScoreScale(0, 10, 1).bins.tolist() == list(range(11))
    # Rounded once, from double precision: linspace in single precision misses some by a bit.
    assert torch.equal(ScoreScale(0, 25.5, 0.1).bins, torch.tensor([k / 10 for k in range(256)]))


def test_a_mapping_of_three_numbers_is_a_scale():
    assert ScoreScale.from_dict({}) == ScoreScale() and ScoreScale.from_dict({"max": 3}) == ScoreScale(max=3)
    for bad in ([1, 5, 0.5], "min", None, {"min": 1, "steps": 2}):
        with pytest.raises(InputError, match="expected a mapping with the keys min, max, step"):
            ScoreScale.from_dict(bad)


def test_a_score_just_beside_an_end_is_the_end():
    scale = ScoreScale()
    assert scale.validate(1 - 1e-9) == 1.0 and scale.validate(5 + 1e-9) == 5.0
    assert type(scale.validate(np.float64(2.5))) is float and type(scale.validate(3)) is float
    for off in (1 - 1e-4, 5 + 1e-4, -3):
        with pytest.raises(InputError, match="^score .* is off the scale 1 to 5"):
            scale.validate(off)
    with pytest.raises(InputError, match="^score is 'x', expected a finite number from 1 to 5"):
        scale.validate("x")


def test_a_score_just_beside_a_bin_is_on_it():
    scale = ScoreScale()
    for near in (3 - 4e-7, 3 + 4e-7):
        assert scale.soft_target(near).tolist() == scale.soft_target(3).tolist()
    assert scale.soft_target(3 + 1e-4)[5].item() == pytest.approx(2e-4, rel=1e-2)
    assert scale.soft_target(3 - 1e-4)[3].item() == pytest.approx(2e-4, rel=1e-2)
    assert scale.soft_target(4.9)[-2:].tolist() == pytest.approx([0.2, 0.8], abs=1e-6)


def test_smoothing_spreads_every_bin_over_its_neighbours():
    """A plain loop over bins, on a scale whose step is not one."""
    scale, sigma = ScoreScale(0, 3, 0.75), 0.6
    ratings = [0.0, 0.75, 0.75, 2.0]
    plain = scale.histogram(ratings).tolist()
    expected = [0.0] * 5
    for i in range(5):
        kernel = [math.exp(-0.5 * ((i - k) * 0.75 / sigma) ** 2) for k in range(5)]
        for k in range(5):
            expected[k] += plain[i] * kernel[k] / sum(kernel)
    assert scale.histogram(ratings, sigma).tolist() == pytest.approx(expected, abs=1e-6)
    assert scale.histogram(iter(ratings)).tolist() == plain
    for bad in (math.nan, math.inf, -1e-9):
        with pytest.raises(InputError, match="smoothing is"):
            scale.histogram(ratings, bad)


# --- distributions


def test_number_types():
    assert dist([0.5, 0.5, 0.0], dtype=torch.float64).probs.dtype == torch.float64
    half = dist([0.5, 0.5, 0.0], dtype=torch.bfloat16)
    assert half.probs.dtype == half.bins.dtype == half.mean.dtype == torch.float32
    double = ScoreDistribution.from_logits(torch.zeros(1, 1, 3, dtype=torch.float64), THREE, ["a"])
    assert double.probs.dtype == double.bins.dtype == double.std.dtype == torch.float64
    assert double.dimensions == ("a",)
    third = torch.tensor([[[1 / 3, 1 / 3, 1 / 3]]], dtype=torch.float16)
    assert ScoreDistribution(third, THREE, ("a",)).probs.sum().item() == pytest.approx(1, abs=2e-3)


def test_bins_carry_no_gradient():
    bins = THREE.clone().requires_grad_()
    assert not ScoreDistribution(torch.ones(1, 1, 3) / 3, bins, ["a"]).bins.requires_grad
    assert ScoreDistribution(torch.ones(1, 1, 3) / 3, bins, ["a"]).dimensions == ("a",)


@pytest.mark.parametrize(
    ("probs", "bins", "dimensions"),
    [
        (torch.ones(1, 2, 3) / 3, THREE, ("a",)),
        (torch.ones(2, 3) / 3, THREE, ("a",)),
        (torch.ones(1, 1, 1, 3) / 3, THREE, ("a",)),
        (torch.ones(1, 1, 3) / 3, THREE[None], ("a",)),
        (torch.ones(1, 1, 3) / 3, torch.tensor(1.0), ("a",)),
        (torch.ones(1, 1, 3) / 3, THREE[:2], ("a",)),
    ],
)
def test_shapes_that_do_not_fit(probs, bins, dimensions):
    with pytest.raises(ValueError, match=r"expected probs \[N, D, S\], bins \[S\] and D names"):
        ScoreDistribution(probs, bins, dimensions)


def test_bins_that_stand_still_are_refused():
    with pytest.raises(ValueError, match="bins must rise"):
        ScoreDistribution(torch.ones(1, 1, 3) / 3, torch.tensor([1.0, 2.0, 2.0]), ("a",))
    assert ScoreDistribution(torch.ones(1, 1, 3) / 3, torch.tensor([0.0, 0.25, 0.5]), ("a",)).mean.item() == 0.25


def test_the_first_bad_row_is_named():
    good = [0.25, 0.5, 0.25]
    for bad, message in (
        ([0.25, 0.5, 0.2], "has probabilities"),
        ([0.5, 0.5, 0.1], "has probabilities"),
        ([0.5, 0.75, -0.25], "has probabilities"),
        ([math.inf, 0.0, 0.0], "the model gives NaN or infinity"),
        ([0.5, math.nan, 0.5], "the model gives NaN or infinity"),
    ):
        probs = torch.tensor([[good, good], [good, bad], [bad, bad]])
        with pytest.raises(ValueError, match=f"item 1, dimension 'b'[ :]* {message}"):
            ScoreDistribution(probs, THREE, ("a", "b"))
    ScoreDistribution(torch.tensor([[[0.25, 0.5, 0.2504]]]), THREE, ("a",))  # half precision


def test_what_is_not_finite_is_named_in_plain_numbers():
    with pytest.raises(NotFiniteError) as caught:
        dist([0.5, 0.5, 0.0], [0.5, math.nan, 0.5])
    assert (caught.value.item, caught.value.dimension) == (1, "a") and type(caught.value.item) is int


def test_quantiles_of_many_bins():
    for count in (200, 229, 256):
        bins = torch.arange(float(count))
        d = ScoreDistribution(torch.full((1, 1, count), 1 / count), bins, ("a",))
        assert [d.quantile((k + 1) / count).item() for k in range(count)] == bins.tolist()


def test_cat_and_comparison_ask_for_the_same_space():
    one, other = dist([0.0, 1.0, 0.0]), ScoreDistribution(torch.ones(1, 1, 3) / 3, THREE, ("b",))
    shifted = ScoreDistribution(one.probs, THREE * 2, ("a",))
    for first, second, message in ((one, other, "different dimensions"), (one, shifted, "different bins")):
        for call in (lambda a, b: a.prefers(b), lambda a, b: ScoreDistribution.cat([a, a, b])):
            with pytest.raises(ValueError, match=message):
                call(first, second)
    double = dist([0.0, 0.0, 1.0], dtype=torch.float64)
    assert one.prefers(double).item() == 0.0 and one.prefers(double).dtype == torch.float32
    joined = ScoreDistribution.cat([one, dist([1.0, 0.0, 0.0])])
    assert joined.mean[:, 0].tolist() == [2.0, 1.0] and joined.dimensions == ("a",) and len(joined) == 2


def test_one_item_is_compared_with_many():
    many, one = dist([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]), dist([0.0, 1.0, 0.0])
    assert many.prefers(one)[:, 0].tolist() == [0.0, 1.0]
    assert one.prefers(many)[:, 0].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="3 items against 2; expected equal numbers, or one item on a side"):
        dist(*[[0.0, 1.0, 0.0]] * 3).prefers(many)


def test_the_logarithm_of_nothing_is_finite_and_entropy_does_not_see_it():
    for dtype in (torch.float32, torch.float64):
        d = dist([1.0, 0.0, 0.0], dtype=dtype)
        tiny = torch.finfo(dtype).tiny
        assert d.log_probs[0, 0].tolist() == pytest.approx([0.0, math.log(tiny), math.log(tiny)])
        assert d.entropy.item() == 0.0


def test_quantiles_at_their_ends():
    d = dist([0.5, 0.0, 0.5])
    assert d.quantile(0.0).item() == 1.0 and d.quantile(1.0).item() == 3.0
    assert (
        d.quantile(0.5).item() == 1.0 and d.quantile(0.5 + 1e-7).item() == 1.0 and d.quantile(0.5 + 1e-5).item() == 3.0
    )
    thirds = dist([1 / 3, 1 / 3, 1 / 3])  # the sum in single precision may miss one
    assert thirds.quantile(1.0).item() == 3.0 and thirds.quantile(2 / 3).item() == 2.0
    short = ScoreDistribution(torch.tensor([[[0.4995, 0.5, 0.0]]]), THREE, ("a",))  # sums to 0.9995
    assert short.quantile(1.0).item() == 2.0
    for bad in (-0.001, 1.001, math.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            d.quantile(bad)


def test_items_by_number_slice_and_list():
    d = dist([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])

    def means(index) -> list[float]:
        return d[index].mean[:, 0].tolist()

    assert means(0) == [1.0] and means(-1) == [3.0] and means(-3) == [1.0] and means(2) == [3.0]
    assert means(slice(1, None)) == [2.0, 3.0] and means([2, 0]) == [3.0, 1.0] and means((1, 1)) == [2.0, 2.0]
    assert means(torch.tensor([0, 2])) == [1.0, 3.0] and means(torch.tensor([False, True, False])) == [2.0]
    for off in (3, -4):
        with pytest.raises(IndexError, match=f"item {off} of 3"):
            d[off]
    with pytest.raises(TypeError):
        d[1.0]


def test_dimensions_in_the_order_asked_for():
    d = ScoreDistribution(torch.eye(3)[None], THREE, ("a", "b", "c"))
    chosen = d.select(["c", "a"])
    assert chosen.dimensions == ("c", "a") and chosen.mean.tolist() == [[3.0, 1.0]]
    for bad in (["a", "x"], "a"):
        with pytest.raises(ValueError, match="expected a list of names from"):
            d.select(bad)


def test_rows_of_plain_numbers():
    d = ScoreDistribution(torch.tensor([[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]], requires_grad=True), THREE, ("a", "b"))
    assert d.to_dicts() == [
        {
            "a": {"mean": 2.0, "std": 1.0, "probs": [0.5, 0.0, 0.5]},
            "b": {"mean": 2.0, "std": 0.0, "probs": [0.0, 1.0, 0.0]},
        }
    ]


def test_a_distribution_is_told_by_identity_and_moves_with_its_gradient():
    probs = torch.tensor([[[0.5, 0.0, 0.5]]], requires_grad=True)
    d = ScoreDistribution(probs, THREE, ("a",))
    assert d == d and d != dist([0.5, 0.0, 0.5])
    assert d.to("cpu").probs.requires_grad and not d.detach().probs.requires_grad
    assert torch.autograd.grad(d.std.sum(), probs)[0].tolist() == [[[0.5, 0.0, 0.5]]]  # (b - m)^2 / 2 std


def test_the_spread_is_that_of_a_plain_sum():
    torch.manual_seed(0)
    d = ScoreDistribution.from_logits(
        torch.randn(3, 2, 5, dtype=torch.float64), torch.tensor([0.0, 1, 3, 4, 9]), ("x", "y")
    )
    for n in range(3):
        for k in range(2):
            p, b = d.probs[n, k].tolist(), d.bins.tolist()
            mean = sum(pi * bi for pi, bi in zip(p, b, strict=True))
            variance = sum(pi * (bi - mean) ** 2 for pi, bi in zip(p, b, strict=True))
            assert d.mean[n, k].item() == pytest.approx(mean, abs=1e-12)
            assert d.std[n, k].item() == pytest.approx(math.sqrt(variance), abs=1e-12)
            assert d.entropy[n, k].item() == pytest.approx(-sum(pi * math.log(pi) for pi in p), abs=1e-12)


def test_targets_of_scores_off_the_scale_are_refused():
    for call in (ScoreScale().soft_target, lambda score: ScoreScale().histogram([3.0, score])):
        for score in (0.5, 5.5, math.nan):
            with pytest.raises(InputError, match="score"):
                call(score)


def test_bins_are_compared_in_the_number_type_of_the_first():
    tenths = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    exact = ScoreDistribution(torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64), tenths, ("a",))
    single = ScoreDistribution(torch.tensor([[[0.0, 1.0, 0.0]]]), tenths, ("a",))
    assert single.prefers(exact).item() == 0.0


def test_the_softmax_is_taken_in_single_precision():
    logits = torch.tensor([[[0.0, 1.0, 2.0]]])
    found = ScoreDistribution.from_logits(logits.bfloat16(), THREE, ["a"]).probs
    assert torch.equal(found, logits.softmax(-1))
    assert ScoreDistribution.cat([dist([0.0, 1.0, 0.0])]).mean.item() == 2.0
