"""Right padding under gated-delta layers: states and outputs of padded rows are those of rows without padding."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import sharpen, tiny_model
from zreward.models.caches import Follow, PassCache, _Keys, _States
from zreward.models.padding import _running, gated_layers, watch_padding

LENGTHS = (7, 3, 1, 6)


@pytest.fixture(scope="module")
def network():
    """One gated-delta layer below one of attention."""
    return sharpen(tiny_model(seed=5)).backbone.base


@pytest.fixture(scope="module")
def layer(network) -> nn.Module:
    (found,) = gated_layers(network)
    return found


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths) -> Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def states(cache: PassCache) -> _States:
    (found,) = [each for each in cache.layers if isinstance(each, _States)]
    return found


def run(network, layer, hidden: Tensor, lengths, before: PassCache | None = None) -> tuple[Tensor, PassCache]:
    follow = None if before is None else Follow.evenly(len(hidden), 1, hidden.device)
    cache = PassCache(network.config, before, follow, mask_of(lengths))
    for each in cache.layers:
        if isinstance(each, _Keys):
            each.update(hidden[:, None], hidden[:, None])  # not looked at
    return layer(hidden, cache_params=cache), cache


@torch.no_grad()
def test_states_behind_padded_rows_are_those_of_rows_without_padding(network, layer):
    """In two passes, whose rows have unequal lengths in both."""
    first, second = drawn(4, 7, 32), drawn(4, 6, 32, seed=1)
    others = (2, 6, 5, 3)
    one, cache = run(network, layer, first, LENGTHS)
    two, later = run(network, layer, second, others, cache)
    for n, (length, other) in enumerate(zip(LENGTHS, others, strict=True)):
        alone, before = run(network, layer, first[n : n + 1, :length], [length])
        assert torch.allclose(one[n, :length], alone[0], atol=1e-5)
        after, last = run(network, layer, second[n : n + 1, :other], [other], before)
        assert torch.allclose(two[n, :other], after[0], atol=1e-5)
        for padded, plain in ((cache, before), (later, last)):
            assert torch.allclose(states(padded).left_conv[n], states(plain).left_conv[0], atol=1e-5)
            assert torch.allclose(states(padded).left_recurrent[n], states(plain).left_recurrent[0], atol=1e-5)
    assert states(later).left_recurrent.abs().max() > 1e-3


def test_one_pass_in_two_parts_is_the_whole(network, layer):
    hidden = drawn(2, 9, 32)
    whole, cache = run(network, layer, hidden, [9, 9])
    first, before = run(network, layer, hidden[:, :4], [4, 4])
    second, later = run(network, layer, hidden[:, 4:], [5, 5], before)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-5)
    assert torch.allclose(states(later).left_recurrent, states(cache).left_recurrent, atol=1e-5)


def test_padding_takes_no_gradient(network, layer):
    """Neither does what stands there reach the states, nor the states what stands there."""
    hidden = drawn(2, 5, 32).requires_grad_()
    _, cache = run(network, layer, hidden, [5, 2])
    found = torch.autograd.grad(
        states(cache).left_recurrent.square().sum() + states(cache).left_conv.square().sum(), hidden
    )[0]
    assert not found[1, 2:].any() and found[1, :2].any() and found[0].any()
    plain = drawn(2, 5, 32)[1:, :2].clone().requires_grad_()
    _, alone = run(network, layer, plain, [2])
    wanted = torch.autograd.grad(
        states(alone).left_recurrent.square().sum() + states(alone).left_conv.square().sum(), plain
    )[0]
    assert torch.allclose(found[1, :2], wanted[0], rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_layer_without_our_cache_runs_as_it_did(network, layer):
    """Also after a pass that had padding, and after one that raised."""
    hidden = drawn(2, 5, 32)
    plain = layer(hidden)
    padded = run(network, layer, hidden, [5, 2])[0]
    assert not torch.allclose(padded[1, 3:], plain[1, 3:])
    assert torch.equal(layer(hidden), plain)
    with pytest.raises(RuntimeError):
        run(network, layer, hidden[:, :, :3], [5, 2])
    assert _running.padding is None
    assert torch.equal(layer.in_proj_a(hidden), nn.functional.linear(hidden, layer.in_proj_a.weight))


def test_the_pass_of_another_thread_is_not_touched(network, layer):
    """While one thread is inside a padded pass, a second one runs the same layer without padding."""
    hidden, inside, done, found = drawn(2, 5, 32), threading.Event(), threading.Event(), []
    plain = layer(hidden)

    def wait(module, args, output):
        if threading.current_thread() is other:
            inside.set()
            assert done.wait(10)

    def padded():
        with torch.no_grad():
            found.append(run(network, layer, hidden, [5, 2])[0])

    other = threading.Thread(target=padded)
    handle = layer.in_proj_qkv.register_forward_hook(wait)
    try:
        other.start()
        assert inside.wait(10)
        assert torch.equal(layer(hidden), plain)
        assert getattr(_running, "padding", None) is None
    finally:
        done.set()
        other.join()
        handle.remove()
    assert torch.equal(found[0], run(network, layer, hidden, [5, 2])[0])  # nor did the plain pass touch the padded one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nothing_is_kept_or_written_in_every_precision(dtype):
    number = torch.tensor(-1e4, dtype=dtype)
    assert number.isfinite() and number.sigmoid() == 0 and nn.functional.softplus(number + 30) == 0


def test_gated_layers_are_found_by_their_projections(network):
    assert [type(each).__name__ for each in gated_layers(network)] == ["Qwen3_5GatedDeltaNet"]
    assert gated_layers(nn.Sequential(nn.Linear(2, 2))) == []
    half = nn.Module()
    half.in_proj_a = nn.Linear(2, 2)
    assert gated_layers(half) == []
    watch_padding(half)
    assert not half.in_proj_a._forward_hooks


def test_a_layer_is_watched_once():
    """Two reward models around one network, and one around a larger network of which a part is watched already."""

    def layer() -> nn.Module:
        made = nn.Module()
        made.in_proj_a, made.in_proj_b = nn.Linear(2, 2), nn.Linear(2, 2)
        return made

    def hooks(each: nn.Module) -> list[int]:
        return [
            *(len(each._forward_pre_hooks), len(each._forward_hooks)),
            *(len(each.in_proj_a._forward_hooks), len(each.in_proj_b._forward_hooks)),
        ]

    first, second = layer(), layer()
    for network in (first, first, nn.ModuleList([first, second])):
        watch_padding(network)
        assert hooks(first) == [1, 1, 1, 1]
    assert hooks(second) == [1, 1, 1, 1]
