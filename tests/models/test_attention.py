"""Attention to a prefix that many rows share, against a loop over rows, heads and queries in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from tests.tiny import tiny_model
from zreward.models.attention import NAME, Prefixed, attend, is_long, takes_prefixed, use_prefixed_attention
from zreward.models.caches import Follow

M, TIMES, HEADS, KEPT, L, T, SIZE = 2, 3, 4, 2, 5, 3, 6
N = M * TIMES
EVEN = Follow.evenly(M, TIMES, torch.device("cpu"))


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


class Case:
    """Queries of N rows, keys and values of M earlier rows and of their own."""

    def __init__(self, heads: int = HEADS, kept: int = KEPT, dtype: torch.dtype = torch.float64) -> None:
        self.query = drawn(N, heads, T, SIZE, seed=0, dtype=dtype)
        self.keys = drawn(M, kept, L, SIZE, seed=1, dtype=dtype), drawn(N, kept, T, SIZE, seed=2, dtype=dtype)
        self.values = drawn(M, kept, L, SIZE, seed=3, dtype=dtype), drawn(N, kept, T, SIZE, seed=4, dtype=dtype)
        self.tensors = [self.query, *self.keys, *self.values]

    def attend(self, mask: Tensor | None, **options) -> Tensor:
        key, value = Prefixed(*self.keys, EVEN), Prefixed(*self.values, EVEN)
        found, weights = attend(nn.Module(), self.query, key, value, mask, **options)
        assert weights is None
        return found

    def plain(self, bias: Tensor, scale: float = SIZE**-0.5) -> Tensor:
        """(N, T, H, SIZE), a query after the other; `bias` (N, H, T, L + T) is added to scores."""
        heads, kept = self.query.shape[1], self.keys[0].shape[1]
        rows = []
        for n in range(N):
            for t in range(T):
                for h in range(heads):
                    k = h // (heads // kept)  # heads next to each other share keys
                    keys = [*self.keys[0][n // TIMES, k].double(), *self.keys[1][n, k].double()]
                    values = [*self.values[0][n // TIMES, k].double(), *self.values[1][n, k].double()]
                    query = self.query[n, h, t].double()
                    scores = torch.stack([(query * key).sum() * scale for key in keys]) + bias[n, h, t]
                    weights = scores.exp() / scores.exp().sum()
                    rows.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        return torch.stack(rows).view(N, T, heads, SIZE)


def visible() -> Tensor:
    """(N, 1, T, L + T) bool: causal, and of unequal prefixes and rows the padding left out."""
    mask = torch.ones(N, 1, T, L + T, dtype=torch.bool)
    for n in range(N):
        for t in range(T):
            for place in range(L + T):
                if place < L:
                    mask[n, 0, t, place] = place < L - 2 * (n // TIMES)  # the second prefix is two tokens shorter
                else:
                    mask[n, 0, t, place] = place - L <= t and place - L < T - n % 2
    return mask


def bias_of(mask: Tensor, heads: int = HEADS) -> Tensor:
    return torch.zeros(N, heads, T, L + T, dtype=torch.float64).masked_fill(~mask, -math.inf)


def causal() -> Tensor:
    mask = torch.ones(N, 1, T, L + T, dtype=torch.bool)
    for t in range(T):
        mask[:, :, t, L + t + 1 :] = False
    return mask


def assert_same(case: Case, found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Values, and the gradients of a sum in which every number counts differently."""
    assert found.shape == expected.shape and torch.allclose(found.double(), expected, atol=tolerance, rtol=0)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    given = torch.autograd.grad((found * weights).sum(), case.tensors)
    wanted = torch.autograd.grad((expected * weights).sum(), case.tensors)
    for one, other in zip(given, wanted, strict=True):
        assert one.dtype == other.dtype and (one - other).norm() <= tolerance * max(1, float(other.norm()))
        assert other.abs().max() > 0


@pytest.mark.parametrize(("heads", "kept"), [(4, 4), (4, 2), (4, 1), (6, 2)])
def test_grouped_heads(heads, kept):
    case = Case(heads, kept)
    assert_same(case, case.attend(None), case.plain(bias_of(causal(), heads)))


def test_a_mask_of_trues_and_falses_over_unequal_rows():
    case = Case()
    assert_same(case, case.attend(visible()), case.plain(bias_of(visible())))


def test_a_mask_of_numbers_is_added():
    case, bias = Case(), torch.randn(N, HEADS, T, L + T, generator=torch.Generator().manual_seed(5)).double()
    bias = bias + bias_of(visible()).clamp_min(torch.finfo(torch.float64).min)
    assert_same(case, case.attend(bias), case.plain(bias))


def test_without_a_mask_every_row_sees_the_whole_prefix_and_itself_so_far():
    case = Case()
    found, masked = case.attend(None), case.attend(causal())
    assert torch.equal(found, masked)


def test_scaling_is_the_size_of_a_head_unless_it_is_given():
    case = Case()
    assert_same(case, case.attend(visible(), scaling=0.3), case.plain(bias_of(visible()), 0.3))
    assert_same(case, case.attend(visible(), scaling=None), case.plain(bias_of(visible()), SIZE**-0.5))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_other_precisions(dtype, tolerance):
    """Probabilities are taken in float32 at least, and what comes out has the queries' precision."""
    case = Case(dtype=dtype)
    found = case.attend(visible())
    assert found.dtype == dtype
    assert torch.allclose(found.double(), case.plain(bias_of(visible())), atol=tolerance, rtol=0)


@pytest.mark.parametrize(("dtype", "inside"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_probabilities_are_taken_in_float32_at_least(dtype, inside, monkeypatch):
    """Their gradient is computed from them."""
    seen, dropout = [], torch.nn.functional.dropout
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda probs, p: seen.append(probs.dtype) or dropout(probs, p))
    Case(dtype=dtype).attend(visible())
    assert seen == [inside]


def test_a_row_that_sees_nothing_does_not_answer_with_nan():
    mask = visible()
    mask[1] = False
    found = Case().attend(mask)
    assert found.isfinite().all()


def test_dropout_acts_where_it_is_asked_for():
    case = Case()
    assert torch.equal(case.attend(visible(), dropout=0.0), case.attend(visible()))
    torch.manual_seed(0)
    dropped = torch.stack([case.attend(visible(), dropout=0.5) for _ in range(600)]).mean(0)
    whole = case.attend(visible())
    assert not torch.allclose(case.attend(visible(), dropout=0.5), whole)
    assert torch.allclose(dropped, whole, atol=0.4) and (dropped - whole).abs().mean() < 0.06  # the same on average


@pytest.mark.parametrize("mask", [None, visible()], ids=["no mask", "mask"])
def test_keys_in_one_piece_go_to_torch(mask):
    """As they would without us: grouped heads, causal where no mask is given."""
    case, module = Case(), nn.Module()
    module.num_key_value_groups, module.is_causal = HEADS // KEPT, True
    key, value = (torch.cat([part[0].repeat_interleave(TIMES, 0), part[1]], 2) for part in (case.keys, case.values))
    if mask is None:  # torch's own causal mask is for queries from the first place on
        whole = torch.cat([drawn(N, HEADS, L, SIZE, seed=7), case.query], 2)
        found = attend(module, whole, key, value, None)[0][:, L:]
        assert_same(case, found, case.plain(bias_of(causal())))
        return
    assert_same(case, attend(module, case.query, key, value, mask)[0], case.plain(bias_of(mask)))


def test_scaling_and_dropout_are_handed_on_with_keys_in_one_piece():
    case, module = Case(), nn.Module()
    module.num_key_value_groups, module.is_causal = HEADS // KEPT, True
    key, value = (torch.cat([part[0].repeat_interleave(TIMES, 0), part[1]], 2) for part in (case.keys, case.values))
    found = attend(module, case.query, key, value, visible(), scaling=0.3)[0]
    assert_same(case, found, case.plain(bias_of(visible()), 0.3))
    torch.manual_seed(0)
    assert not torch.allclose(attend(module, case.query, key, value, visible(), scaling=0.3, dropout=0.5)[0], found)


def test_whole_keys_are_those_of_each_row():
    case = Case()
    whole = Prefixed(*case.keys, EVEN).whole()
    for n in range(N):
        assert torch.equal(whole[n], torch.cat([case.keys[0][n // TIMES], case.keys[1][n]], 1))


@pytest.mark.parametrize(
    ("width", "follow", "long", "apart"),
    [(6, EVEN, L, True), (6, EVEN, L + 1, False), (7, EVEN, L, False), (6, Follow(EVEN.index), L, False)],
)
def test_only_even_rows_no_wider_than_a_head_stay_apart_from_long_prefixes(monkeypatch, width, follow, long, apart):
    monkeypatch.setattr("zreward.models.attention.LONG", long)
    assert Prefixed(torch.zeros(M, 1, L, 6), torch.zeros(N, 1, width, 6), follow).stays_apart == apart


def test_a_prefix_of_the_shipped_length_is_read_in_place():
    for length, long in ((255, False), (256, True)):
        assert is_long(torch.zeros(M, 1, length, 6), EVEN) == long


@pytest.mark.parametrize(("implementation", "ours"), [("sdpa", NAME), ("eager", "eager")])
def test_only_torch_attention_is_replaced(implementation, ours):
    network = tiny_model(linear_layers=0).backbone.model
    config = network.config.get_text_config()
    config._attn_implementation = implementation
    use_prefixed_attention(network)
    assert config._attn_implementation == ours
    assert takes_prefixed(network.config) == (ours == NAME)
    assert AttentionInterface()[NAME] is attend
    assert network.config.vision_config._attn_implementation != NAME
