"""The parts of a shared prefix on small tensors: how rows are split, what the layers keep, how it is repeated."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from zreward.models.backbone import ModelInput
from zreward.models.caches import _States, empty_cache, repeat_cache
from zreward.models.shared_prefix import Questions, can_share, split_questions
from zreward.models.tokens import pad

IMAGE, PAD = 99, 0


def rows(*ids: list[int]) -> ModelInput:
    """Right-padded rows, each with a picture of its own number."""
    input_ids, mask = pad(ids, PAD)
    numbers = torch.arange(len(ids))[:, None]
    return ModelInput(input_ids, mask, torch.zeros(0, 3), torch.ones(len(ids), 3), numbers, trace_mask=mask)


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [row[real].tolist() for row, real in zip(ids, mask.bool(), strict=True)]


def test_rows_of_an_item_are_split_behind_what_they_have_in_common():
    given = [[1, IMAGE, 5, 6, 7], [1, IMAGE, 5, 8, 9, 3], [2, IMAGE, 4, 4, 1, 7], [2, IMAGE, 4, 4, 2, 7, 7]]
    found = split_questions(rows(*given), 2, IMAGE, PAD)
    assert found.each == 2
    prefixes = unpadded(found.prefix.input_ids, found.prefix.attention_mask)
    suffixes = unpadded(found.suffix_ids, found.suffix_mask)
    assert prefixes == [[1, IMAGE, 5], [2, IMAGE, 4, 4]]
    assert suffixes == [[6, 7], [8, 9, 3], [1, 7], [2, 7, 7]]
    assert found.prefix.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]  # padded on the left
    assert found.suffix_mask.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]]  # on the right
    assert found.prefix.input_ids[0, 0] == PAD and found.suffix_ids[0, 2] == PAD
    assert found.prefix.row_images.tolist() == [[0], [2]]  # the first row of each item
    assert found.prefix.trace_mask is None and len(found.prefix) == 2


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 3]], [IMAGE, 1]),  # equal rows: two tokens stay for the suffix
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 3, 4]], [IMAGE, 1]),
        ([[IMAGE, 1, 2, 3], [IMAGE, 1, 2, 4]], [IMAGE, 1]),
        ([[IMAGE, 1, 2, 3, 5], [IMAGE, 1, 2, 4, 5]], [IMAGE, 1, 2]),
        ([[IMAGE, 7, 2, 3], [IMAGE, 8, 2, 3]], [IMAGE]),
    ],
)
def test_a_suffix_has_two_tokens_at_least(given, prefix):
    """One alone would be decoded by kernels that write into the states they read."""
    found = split_questions(rows(*given), 2, IMAGE, PAD)
    assert unpadded(found.prefix.input_ids, found.prefix.attention_mask) == [prefix]
    assert unpadded(found.suffix_ids, found.suffix_mask) == [row[len(prefix) :] for row in given]


def test_one_question_of_each_item():
    found = split_questions(rows([IMAGE, 1, 2, 3], [IMAGE, 4, 5]), 1, IMAGE, PAD)
    assert unpadded(found.suffix_ids, found.suffix_mask) == [[2, 3], [4, 5]] and found.each == 1


@pytest.mark.parametrize("given", [[[1, 5, IMAGE, 2], [1, 6, IMAGE, 2]], [[1, 2, IMAGE], [1, 2, IMAGE]]])
def test_an_image_in_the_suffix_cannot_be_shared(given):
    assert split_questions(rows(*given), 2, IMAGE, PAD) is None


def test_questions_move_as_a_whole():
    found = split_questions(rows([IMAGE, 1, 2, 3]), 1, IMAGE, PAD).to(torch.device("meta"))
    assert isinstance(found, Questions)
    parts = (found.prefix.input_ids, found.prefix.attention_mask, found.suffix_ids, found.suffix_mask)
    assert {part.device.type for part in parts} == {"meta"}


def test_only_plain_layers_can_be_shared(model, monkeypatch):
    assert can_share(model.backbone)

    class Sliding(DynamicLayer):
        pass

    kinds = itertools.cycle([DynamicLayer, Sliding])
    monkeypatch.setattr(
        DynamicCache, "__init__", lambda self, config: setattr(self, "layers", [next(kinds)() for _ in "ab"])
    )
    assert not can_share(model.backbone)


# --- what the layers keep


def test_a_convolution_sees_what_came_before_it():
    """(N, C, T) in parts against the whole: every part's context is the kernel's length of what came before, zeros at first."""
    whole = torch.arange(2 * 3 * 9.0).view(2, 3, 9)
    layer, seen = _States(), []
    for start, end in ((0, 2), (2, 7), (7, 8), (8, 9)):
        context = layer.update_conv_state(whole[..., start:end], 0, 4)
        assert torch.equal(context[..., -(end - start) :], whole[..., start:end])
        before = torch.cat([torch.zeros(2, 3, 4), whole[..., :start]], -1)[..., -4:]
        if start:
            assert torch.equal(context[..., : -(end - start)], before)
        seen.append(context.shape[-1])
        kept = torch.cat([torch.zeros(2, 3, 4), whole[..., :end]], -1)[..., -4:]
        assert torch.equal(layer.conv_states[0], kept)
        assert layer.conv_states[0].untyped_storage().nbytes() == 2 * 3 * 4 * 4  # not the whole context
        assert layer.has_previous_state[0] and layer.is_conv_states_initialized[0] and layer.conv_kernel_size[0] == 4
    assert seen == [4, 9, 5, 5]


def test_a_long_first_part_is_not_padded_and_the_kernel_is_remembered():
    layer = _States()
    whole = torch.arange(8.0).view(1, 1, 8)
    assert torch.equal(layer.update_conv_state(whole[..., :5], conv_kernel_size=3), whole[..., :5])
    context = layer.update_conv_state(whole[..., 5:])
    assert context.flatten().tolist() == [2, 3, 4, 5, 6, 7] and layer.conv_states[0].flatten().tolist() == [5, 6, 7]
    exact = _States()
    assert torch.equal(exact.update_conv_state(whole[..., :3], 0, 3), whole[..., :3])


def test_states_are_replaced_and_carry_their_gradient():
    layer, state = _States(), torch.ones(2, 3, requires_grad=True)
    assert layer.update_recurrent_state(state) is state and layer.recurrent_states[0] is state
    assert layer.is_recurrent_states_initialized[0]
    convolved = torch.ones(1, 1, 4, requires_grad=True)
    layer.update_conv_state(convolved, 0, 2)
    (2 * layer.conv_states[0]).sum().backward()
    assert convolved.grad.flatten().tolist() == [0, 0, 2, 2]


# --- how it is repeated


@pytest.fixture
def filled(model):
    """A cache of two rows: a linear-attention layer and one of attention, with known states."""
    cache = empty_cache(model.backbone)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    for layer in cache.layers:
        if isinstance(layer, LinearAttentionLayer):
            layer.update_conv_state(draw(2, 4, 6), 0, 3)
            layer.update_recurrent_state(draw(2, 4, 5))
        else:
            layer.update(draw(2, 1, 4, 3), draw(2, 1, 4, 3))
    assert {type(layer) for layer in cache.layers} == {_States, DynamicLayer}
    return cache


def test_a_repeated_cache_holds_every_row_several_times_and_leaves_the_original(model, filled):
    before = [
        (layer.conv_states[0], layer.recurrent_states[0]) if isinstance(layer, _States) else (layer.keys, layer.values)
        for layer in filled.layers
    ]
    for growing in (False, True):
        copy = repeat_cache(model.backbone, filled, 3, growing)
        for old, new in zip(filled.layers, copy.layers, strict=True):
            if isinstance(old, _States):
                for name in ("conv_states", "recurrent_states"):
                    mine = getattr(new, name)[0]
                    assert mine.shape[0] == 6
                    for n in range(6):
                        assert torch.equal(mine[n], getattr(old, name)[0][n // 3])
                assert new.has_previous_state[0] and new.conv_kernel_size[0] == 3
                assert new.is_conv_states_initialized[0] and new.is_recurrent_states_initialized[0]
                new.update_conv_state(torch.ones(6, 4, 1))
                new.update_recurrent_state(torch.ones(6, 4, 5))
            else:
                keys, values = torch.full((6, 1, 2, 3), 7.0), torch.full((6, 1, 2, 3), 8.0)
                for _ in range(2):  # a pass does not see the one before it, unless the cache grows
                    got = new.update(keys, values)
                    for part, own, added in zip(got, (old.keys, old.values), (7.0, 8.0), strict=True):
                        assert all(torch.equal(part[n, :, :4], own[n // 3]) for n in range(6))
                        assert (part[:, :, 4:] == added).all()
                assert got[0].shape == (6, 1, 8 if growing else 6, 3) == got[1].shape
    after = [
        (layer.conv_states[0], layer.recurrent_states[0]) if isinstance(layer, _States) else (layer.keys, layer.values)
        for layer in filled.layers
    ]
    assert all(a is b for one, other in zip(before, after, strict=True) for a, b in zip(one, other, strict=True))


def test_a_repeated_cache_keeps_nothing_of_a_pass_unless_asked(model, filled):
    layers = repeat_cache(model.backbone, filled, 2).layers
    (attention,) = [layer for layer in layers if not isinstance(layer, _States)]
    attention.update(torch.ones(4, 1, 2, 3), torch.ones(4, 1, 2, 3))
    assert attention.keys.shape == attention.values.shape == (2, 1, 4, 3)  # still the two prefixes


def test_a_repeated_cache_is_as_long_as_its_prefix(model, filled):
    for growing in (False, True):
        assert repeat_cache(model.backbone, filled, 2, growing).get_seq_length() == 4
