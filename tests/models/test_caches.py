"""What the layers keep of a pass, on small tensors: what the next pass goes on from, and what stays as it was."""

from __future__ import annotations

import copy
import itertools
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from zreward.models.attention import NAME, Prefixed
from zreward.models.caches import AllLeft, Follow, PassCache, _Keys, _States, shareable_layers, shortest_window
from zreward.models.shared_prefix import can_share

pytestmark = pytest.mark.usefixtures("short_prefixes_stay_apart")

UNEVEN = Follow(torch.tensor([0, 0, 2, 1, 2]))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- which row goes on from which


@pytest.mark.parametrize("follow", [Follow.evenly(3, 2, torch.device("cpu")), UNEVEN, Follow(torch.tensor([1, 1, 1]))])
def test_every_row_is_behind_its_own_earlier_row(follow):
    before, own = drawn(3, 2, 4, 5), drawn(len(follow.index), 2, 3, 5, seed=1)
    whole = follow.extend(before, own)
    for n, earlier in enumerate(follow.index.tolist()):
        assert torch.equal(whole[n, :, :4], before[earlier]) and torch.equal(whole[n, :, 4:], own[n])
        assert torch.equal(follow.select(before)[n], before[earlier])


def test_even_rows_stand_next_to_each_other():
    follow = Follow.evenly(2, 3, torch.device("cpu"))
    assert follow.index.tolist() == [0, 0, 0, 1, 1, 1] and follow.times == 3


# --- states of gated-delta layers


def passes_over(rows: list[Tensor], ends: list[list[int]], size: int) -> tuple[list[Tensor], _States]:
    """Rows (C, T) of unequal lengths in right-padded passes that end at `ends` (a list for each pass)."""
    contexts, layer, starts = [], None, [0] * len(rows)
    for stops in ends:
        parts = [row[:, start:stop] for row, start, stop in zip(rows, starts, stops, strict=True)]
        width = max(part.shape[1] for part in parts)
        padded = torch.stack([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=-7.0) for part in parts])
        lengths = torch.tensor([part.shape[1] for part in parts])
        follow = Follow.evenly(len(rows), 1, torch.device("cpu"))
        layer = _States(layer, follow if layer else None, None if (lengths == width).all() else lengths)
        contexts.append(layer.update_conv_state(padded, 0, size))
        layer.update_recurrent_state(padded[..., :1])
        starts = stops
    return contexts, layer


@pytest.mark.parametrize(
    "ends", [[[2, 2], [7, 7], [9, 9]], [[2, 5], [7, 6], [9, 9]], [[5, 1], [6, 2], [9, 9]], [[9, 9]], [[3, 9]]]
)
def test_a_convolution_sees_what_came_before_it_whatever_the_padding(ends):
    """Every context begins with the last inputs before the pass, zeros at first, of each row's own."""
    rows, size = [drawn(3, 9), drawn(3, 9, seed=1)], 4
    contexts, layer = passes_over(rows, ends, size)
    starts = [0, 0]
    for context, stops in zip(contexts, ends, strict=True):
        for n, row in enumerate(rows):
            history = torch.cat([torch.zeros(3, size), row[:, : stops[n]]], 1)
            expected = history[:, starts[n] :]
            if stops[0] == stops[1]:  # without padding a first context is no longer than has to be kept
                expected = expected[:, -context.shape[-1] :]
                assert starts[0] or context.shape[-1] == max(size, stops[0])
            assert context.shape[-1] >= size and torch.equal(context[n, :, : expected.shape[1]], expected)
        starts = stops
    for n, row in enumerate(rows):
        history = torch.cat([torch.zeros(3, size), row[:, : ends[-1][n]]], 1)
        assert torch.equal(layer.left_conv[n], history[:, -size:])
    assert layer.left_conv.untyped_storage().nbytes() == layer.left_conv.nbytes  # not the whole context


def test_a_pass_goes_on_from_the_states_of_its_own_earlier_rows():
    earlier = _States(None, None, None)
    assert not earlier.has_previous_state[0] and earlier.conv_states[0] is None
    earlier.update_conv_state(drawn(3, 2, 6), 0, 4)
    earlier.update_recurrent_state(drawn(3, 2, 5))
    later = _States(earlier, UNEVEN, None)
    assert later.has_previous_state[0]
    for n, m in enumerate(UNEVEN.index.tolist()):
        assert torch.equal(later.conv_states[0][n], drawn(3, 2, 6)[m, :, -4:])
        assert torch.equal(later.recurrent_states[0][n], drawn(3, 2, 5)[m])
    later.update_recurrent_state(torch.zeros(5, 2, 5))
    later.update_conv_state(torch.zeros(5, 2, 1), 0, 4)
    assert torch.equal(earlier.left_conv, drawn(3, 2, 6)[..., -4:]), "a pass wrote into what it goes on from"
    assert torch.equal(earlier.left_recurrent, drawn(3, 2, 5))


def test_states_carry_their_gradient():
    layer, state = _States(None, None, torch.tensor([3])), torch.ones(1, 2, 3, requires_grad=True)
    convolved = torch.ones(1, 1, 4, requires_grad=True)
    layer.update_conv_state(convolved, 0, 2)
    assert layer.update_recurrent_state(state) is state
    later = _States(layer, Follow(torch.tensor([0, 0])), None)
    (later.conv_states[0].sum() + later.recurrent_states[0].sum()).backward()
    assert convolved.grad.flatten().tolist() == [0, 2, 2, 0]  # the last two before the padding, for both rows
    assert state.grad.flatten().tolist() == [2] * 6


def test_a_second_run_reads_the_same_and_leaves_the_first_in_place():
    """What gradient checkpointing does: tensors of the first run are in the graph of the next pass."""
    first, second = drawn(1, 2, 5), drawn(1, 2, 5)
    states = _States(None, None, None)
    contexts = [states.update_conv_state(run, 0, 3) for run in (first, second)]
    assert torch.equal(*contexts)
    left = states.left_conv
    states.update_conv_state(second, 0, 3)
    assert states.left_conv is left
    assert states.update_recurrent_state(first) is first and states.update_recurrent_state(second) is second
    assert states.left_recurrent is first
    keys = _Keys(None, None, False)
    assert keys.update(first, first)[0] is first and keys.update(second, second)[1] is second
    assert keys.left()[0] is first and keys.left()[1] is first
    assert keys.get_seq_length() == 0  # nothing came before this pass, however often it runs


# --- keys and values


def keys_of(count: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return drawn(count, 2, length, 5, seed=seed), drawn(count, 2, length, 5, seed=seed + 10)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("follow", [Follow.evenly(3, 2, torch.device("cpu")), UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("width", [1, 5, 6])
def test_keys_of_a_pass_stand_behind_the_earlier_ones(apart, follow, width):
    """Apart only where attention takes it so, rows are even, and no wider than a head: else copies cost less."""
    earlier = _Keys(None, None, apart)
    given = keys_of(3, 4)
    earlier.update(*given)
    later = _Keys(earlier, follow, apart)
    assert later.get_seq_length() == 4
    own = keys_of(len(follow.index), width, seed=1)
    made = later.update(*own)
    assert all(isinstance(part, Prefixed) == (apart and follow.times is not None and width <= 5) for part in made)
    for part, before, mine in zip(made, given, own, strict=True):
        whole = part.whole() if isinstance(part, Prefixed) else part
        for n, m in enumerate(follow.index.tolist()):
            assert torch.equal(whole[n], torch.cat([before[m], mine[n]], 1))
    assert all(torch.equal(a, b) for a, b in zip(earlier.left(), given, strict=True))
    third = _Keys(later, Follow.evenly(len(follow.index), 1, torch.device("cpu")), apart)
    assert third.get_seq_length() == 4 + width
    assert torch.equal(third.before[1], later.left()[1])


# --- a model's cache


def test_every_layer_has_its_kind_of_state_and_padding_is_known(model):
    config = model.backbone.base.config
    whole = PassCache(config, mask_NT=torch.ones(2, 3))
    assert {type(layer) for layer in whole.layers} == {_States, _Keys}
    assert whole.padding is None and all(getattr(layer, "lengths_N", None) is None for layer in whole.layers)
    assert PassCache(config).padding is None
    padded = PassCache(config, mask_NT=torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert padded.padding.shape == (2, 3, 1) and padded.padding[..., 0].tolist() == [[False] * 3, [False, True, True]]
    (states,) = [layer for layer in padded.layers if isinstance(layer, _States)]
    assert states.lengths_N.tolist() == [3, 1]
    assert PassCache(config, mask_NT=torch.tensor([[1, 1, 1], [1, 1, 0]])).padding is not None, (
        "one place is padding too"
    )


@pytest.mark.parametrize("last", [_Keys, _States])
def test_a_pass_ends_when_its_last_layer_has_left_its_part(model, last):
    for ends in (True, False, None):
        cache = PassCache(model.backbone.base.config, **({} if ends is None else {"ends": ends}))
        cache.layers.sort(key=lambda layer: isinstance(layer, last))
        state, keys = drawn(2, 4, 5), keys_of(2, 3)
        for number, layer in enumerate(cache.layers):
            with pytest.raises(AllLeft) if ends and number == len(cache.layers) - 1 else nullcontext():
                if isinstance(layer, _States):
                    cache.update_conv_state(drawn(2, 4, 6), number, conv_kernel_size=3)
                    assert cache.update_recurrent_state(state, number) is state
                else:
                    assert cache.update(*keys, number) == keys
        for layer in cache.layers:
            kept = layer.left_recurrent if isinstance(layer, _States) else layer.left()[0]
            assert kept is (state if isinstance(layer, _States) else keys[0]), "it has left it before"


@pytest.fixture
def filled(model) -> PassCache:
    """Two rows of four tokens: a gated-delta layer and one of attention, with known states."""
    cache = PassCache(model.backbone.base.config)
    for layer in cache.layers:
        if isinstance(layer, _States):
            layer.update_conv_state(drawn(2, 4, 6), 0, 3)
            layer.update_recurrent_state(drawn(2, 4, 5))
        else:
            layer.update(*keys_of(2, 4))
    return cache


def test_what_a_layer_left_with_a_graph_is_told_by_layer(model, filled):
    assert [filled.left_with_graph(number) for number in range(len(filled.layers))] == [[]] * len(filled.layers)
    for number, layer in enumerate(filled.layers):
        if isinstance(layer, _States):
            layer.left_recurrent = layer.left_recurrent.requires_grad_()
            assert filled.left_with_graph(number) == [layer.left_recurrent]
        else:
            keys, values = keys_of(2, 4)
            layer = filled.layers[number] = _Keys(None, None, False)
            layer.update(keys, values.requires_grad_())
            assert [part is values for part in filled.left_with_graph(number)] == [True]


def left(cache: PassCache) -> list[Tensor]:
    parts = [
        (layer.left_conv, layer.left_recurrent) if isinstance(layer, _States) else layer.left()
        for layer in cache.layers
    ]
    return [tensor.clone() for part in parts for tensor in part]


def test_each_pass_of_a_model_goes_on_layer_by_layer(model, filled):
    follow = Follow(torch.tensor([1, 0, 1]))
    later = PassCache(model.backbone.base.config, filled, follow)
    for old, new in zip(filled.layers, later.layers, strict=True):
        assert type(new) is type(old)
        if isinstance(new, _States):
            assert torch.equal(new.conv_states[0], old.left_conv[[1, 0, 1]])
        else:
            assert new.follow is follow and torch.equal(new.before[0], old.left()[0])
    assert later.get_seq_length() == 4 and PassCache(model.backbone.base.config).get_seq_length() == 0


@pytest.mark.parametrize("index", [[0, 0, 0, 1, 1, 1], [1, 0, 0]])
def test_generation_writes_into_a_cache_of_its_own(model, filled, index):
    """transformers' own cache grows with every token: what the pass left stays, for other questions about it."""
    before = left(filled)
    growing = filled.growing(model.backbone.base.config, Follow(torch.tensor(index)))
    assert type(growing) is DynamicCache and growing.get_seq_length() == 4
    for old, new in zip(filled.layers, growing.layers, strict=True):
        if isinstance(old, _States):
            assert type(new) is LinearAttentionLayer and new.has_previous_state[0] and new.conv_kernel_size[0] == 3
            assert new.is_conv_states_initialized[0] and new.is_recurrent_states_initialized[0]
            assert torch.equal(new.conv_states[0], old.left_conv[index])
            assert torch.equal(new.recurrent_states[0], old.left_recurrent[index])
            new.update_conv_state(torch.ones(len(index), 4, 1))
            new.update_recurrent_state(torch.ones(len(index), 4, 5))
        else:
            assert type(new) is DynamicLayer
            assert torch.equal(new.keys, old.left()[0][index]) and torch.equal(new.values, old.left()[1][index])
            for length in (6, 8):
                keys, values = new.update(
                    torch.full((len(index), 2, 2, 5), 7.0), torch.full((len(index), 2, 2, 5), 8.0)
                )
                assert keys.shape[2] == values.shape[2] == length
                assert (keys[:, :, 4:] == 7).all() and (values[:, :, 4:] == 8).all()
    assert all(torch.equal(one, other) for one, other in zip(before, left(filled), strict=True))


@pytest.mark.parametrize(("implementation", "apart"), [(NAME, True), ("eager", False)])
def test_keys_stay_apart_where_attention_takes_them_so(model, filled, implementation, apart):
    config = copy.deepcopy(model.backbone.base.config)
    config.get_text_config()._attn_implementation = implementation
    follow = Follow.evenly(2, 3, torch.device("cpu"))
    number = next(n for n, layer in enumerate(filled.layers) if isinstance(layer, _Keys))
    before, own = filled.layers[number].left(), keys_of(6, 2, seed=1)
    whole = [torch.cat([old.repeat_interleave(3, 0), new], 2) for old, new in zip(before, own, strict=True)]
    growing = filled.growing(config, follow)
    for cache in (PassCache(config, filled, follow), growing):
        assert cache.layers[number].get_seq_length() == 4
        made = cache.layers[number].update(*own)
        assert [isinstance(part, Prefixed) for part in made] == [apart] * 2
        for part, expected in zip(made, whole, strict=True):
            assert torch.equal(part.whole() if apart else part, expected)
    assert growing.layers[number].get_seq_length() == 6


# --- which models


def with_layers(monkeypatch, *kinds) -> None:
    made = itertools.cycle(kinds)

    def begin(cache, config):
        cache.layers = [next(made)() for _ in kinds]

    monkeypatch.setattr(DynamicCache, "__init__", begin)


class _Odd(DynamicLayer):
    """A kind of layer that nobody has looked at."""


def test_layers_of_another_kind_are_not_shared(model, monkeypatch):
    config = model.backbone.base.config
    assert shareable_layers(config) and can_share(model.backbone)
    with_layers(monkeypatch, DynamicLayer, _Odd)
    assert not shareable_layers(config) and not can_share(model.backbone)


def test_gated_layers_whose_padding_cannot_be_hidden_are_not_shared(model, monkeypatch):
    monkeypatch.setattr("zreward.models.shared_prefix.gated_layers", lambda network: [])
    assert not can_share(model.backbone)


def test_the_narrowest_window_counts(model, monkeypatch):
    assert shortest_window(model.backbone.base.config) is None
    windows = iter([32, 16])

    class Window(DynamicSlidingWindowLayer):
        def __init__(self) -> None:
            self.sliding_window = next(windows)

    with_layers(monkeypatch, Window, DynamicLayer, Window)
    assert shortest_window(None) == 16
