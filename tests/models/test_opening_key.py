"""What a kept opening's key holds beside its text: every bit of the weights, what adapters do, and the precision."""

from __future__ import annotations

import pytest
import torch

from tests.models.kept_openings import adapted, fresh, language, never_kept, scores, tuners
from zreward.models.opening import _key, _sums_of_bits
from zreward.models.reward_model import RewardModel

pytestmark = pytest.mark.usefixtures("short_openings")


# --- adapters


def switch(judge: RewardModel) -> None:
    judge.backbone.model.set_adapter("other")


def both(judge: RewardModel) -> None:
    judge.backbone.model.base_model.set_adapter(["default", "other"])


def disable(judge: RewardModel) -> None:
    judge.backbone.model.base_model.disable_adapter_layers()


def merge(judge: RewardModel) -> None:
    judge.backbone.model.merge_adapter(["other"])


def rescale(judge: RewardModel) -> None:
    for layer in tuners(judge):
        layer.scaling["default"] *= 3


def load_adapter(judge: RewardModel) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = {name: 2 * value for name, value in get_peft_model_state_dict(judge.backbone.model).items()}
    set_peft_model_state_dict(judge.backbone.model, state)


@pytest.mark.parametrize("change", [switch, both, disable, merge, rescale, load_adapter], ids=lambda way: way.__name__)
def test_no_change_of_an_adapter_leaves_a_stale_opening(change, judge):
    judge = adapted(judge)
    before = scores(judge)
    kept = judge.backbone.shared_prefix.opening._kept
    change(judge)
    changed = scores(judge)
    assert judge.backbone.shared_prefix.opening._kept is not kept
    assert torch.equal(changed, never_kept(judge))
    assert not torch.allclose(before, changed, atol=1e-5)


def test_an_adapter_that_is_disabled_for_a_while(judge, encoded):
    judge = adapted(judge)
    enabled = scores(judge)
    with judge.backbone.model.disable_adapter():
        assert torch.equal(scores(judge), never_kept(judge))
    assert torch.equal(scores(judge), enabled)


def test_an_adapter_merged_and_taken_out_again(judge):
    """Merged, the weights hold it: the layer has to know that it adds nothing more."""
    judge = adapted(judge)
    scores(judge)
    for change in (judge.backbone.model.merge_adapter, judge.backbone.model.unmerge_adapter):
        change()
        assert torch.equal(scores(judge), never_kept(judge))


def test_what_an_adapter_does_belongs_to_the_key(judge):
    """Each alone: the weights stay as they are."""
    judge = adapted(judge)
    ids = torch.tensor([5, 6, 7])
    keys = [_key(judge.backbone, ids)]

    def add() -> None:
        key = _key(judge.backbone, ids)
        assert key not in keys
        keys.append(key)

    layer = tuners(judge)[0]
    layer._active_adapter = ["other"]
    add()
    layer.merged_adapters.append("default")
    add()
    layer._disable_adapters = True
    add()
    layer.scaling["other"] *= 2
    add()
    assert len(set(keys)) == 5, "a key holds nothing that can change"


# --- precision


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_precision(judge, dtype):
    scores(judge)
    judge.backbone.to(dtype)
    assert torch.equal(scores(judge), never_kept(judge))
    judge.backbone.to(torch.float32)
    assert torch.equal(scores(judge), never_kept(judge))


def test_weights_of_zeros_in_another_precision(judge):
    """Their bits are the same."""
    for weight in (*language(judge).parameters(), *language(judge).buffers()):
        weight.data.zero_()
    ids = torch.tensor([5, 6, 7])
    keys = [_key(judge.backbone.to(dtype), ids) for dtype in (torch.float32, torch.float64, torch.bfloat16)]
    assert len(set(keys)) == 3


def test_autocast_on_and_off(judge):
    """In an order in which every two precisions follow each other."""
    found = {}
    for dtype in (None, torch.bfloat16, torch.float16, torch.bfloat16, None, torch.float16, None):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            found[dtype] = scores(judge)
            assert torch.equal(found[dtype], fresh(judge))
    assert not torch.equal(found[torch.bfloat16], found[None])
    assert not torch.equal(found[torch.bfloat16], found[torch.float16])


def test_another_attention_implementation_has_a_key_of_its_own(judge, encoded):
    plain = scores(judge)
    judge.backbone.base.config.get_text_config()._attn_implementation = "eager"
    assert torch.allclose(scores(judge), plain, atol=1e-5)
    assert len(encoded) == 2


# --- the sums


def sums(*weights: torch.Tensor) -> list[int]:
    return _sums_of_bits(weights, torch.device("cpu")).tolist()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.complex64]
)
@pytest.mark.parametrize("shape", [(8, 16), (5, 3), (7,), (), (4, 2, 3), (1, 4), (0, 4)])
def test_every_bit_of_every_number_counts(dtype, shape):
    weight = (50 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    before = sums(weight)
    words = weight.view(-1).view(torch.uint8) if weight.numel() else []
    for place in range(len(words)):
        for bit in (0, 7):
            words[place] ^= 1 << bit
            assert sums(weight) != before, (place, bit)
            words[place] ^= 1 << bit
    assert sums(weight) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_numbers_count_by_their_places(dtype):
    weight = torch.rand(6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    others = [weight.flip(0), weight.flip(1), weight.roll(1, 0), weight.roll(1, 1), -weight, weight.flip(0, 1)]
    for place in ((0, 1), (2, 5)):
        for column in (0, 3, 7):
            swapped = weight.clone()
            swapped[place, column] = weight[place[::-1], column]
            others.append(swapped)
            negated = weight.clone()
            negated[:, column].neg_()
            others.append(negated)
            one = weight.clone()
            one[0, [column, (column + 4) % 8]] = weight[0, [(column + 4) % 8, column]]
            others.append(one)
    before = sums(weight)
    for number, other in enumerate(others):
        assert (sums(other) == before) == torch.equal(other, weight), number


MIXER = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits


def by_place(sums: list[int]) -> int:
    """Of 64 bits each: the high half is mixed into the low one, and what comes out multiplied by the odd number of its place."""
    wrapped = map(wrap, sums)
    return wrap(sum((value ^ (value >> 32)) * (2 * place + 1) * MIXER for place, value in enumerate(wrapped)))


def wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize(
    ("dtype", "width", "start", "words"),
    [
        (torch.float32, 6, 0, "<i8"),
        (torch.float32, 6, 2, "<i8"),
        (torch.float32, 6, 1, "<i4"),  # at an odd place
        (torch.float32, 5, 0, "<i4"),  # rows of an odd length
        (torch.float16, 8, 0, "<i8"),
        (torch.float16, 8, 4, "<i8"),
        (torch.float16, 8, 2, "<i2"),
        (torch.float16, 6, 0, "<i2"),
        (torch.float16, 18, 0, "<i2"),
        (torch.int8, 16, 8, "<i8"),
        (torch.int8, 16, 4, "<u1"),
        (torch.int8, 9, 9, "<u1"),
        (torch.float64, 3, 1, "<i4"),
    ],
)
def test_sums_by_a_plain_loop(dtype, width, start, words):
    """Rows of eight bytes each are read as such words where they begin at one, others as words of a number's own size."""
    flat = (50 * torch.randn(start + 4 * width, generator=torch.Generator().manual_seed(0))).to(dtype)
    weight = flat[start:].view(4, width)
    rows = [row.numpy().view(words).tolist() for row in weight]
    sums_of_rows, sums_of_columns = [sum(row) for row in rows], [sum(column) for column in zip(*rows, strict=True)]
    assert sums(weight) == [by_place(sums_of_rows), by_place(sums_of_columns)]
    one = flat[start : start + width]
    assert sums(one) == [by_place([sum(rows[0])]), by_place(rows[0])], "a vector is one row"
    assert sums(weight, one) == [by_place([*sums_of_rows, sum(rows[0])]), by_place([*sums_of_columns, *rows[0]])]


def test_weights_that_are_views_of_others():
    """Transposed, strided, or at an odd place of a flat buffer, as some engines keep them."""
    flat = torch.rand(100, generator=torch.Generator().manual_seed(0))
    for view in (flat[:96].view(8, 12).T, flat[1:97].view(8, 12), flat[:96].view(8, 12)[:, ::2], flat[::3]):
        before = sums(view)
        view.view(-1)[0].add_(1) if view.is_contiguous() else view[0].add_(1)
        assert sums(view) != before
