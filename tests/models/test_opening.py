"""The kept encoding of the rubric is never stale: whatever changed the weights, scores are those of one that was never kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.kept_openings import (
    PICTURE,
    PROMPT,
    adapted,
    attention,
    embeddings,
    fresh,
    language,
    never_kept,
    opening_token,
    scores,
)
from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.models.opening import Opening
from zreward.models.reward_model import RewardModel

pytestmark = pytest.mark.usefixtures("short_openings")


# --- ways to change what an opening is encoded with


def step(kind: type[torch.optim.Optimizer]) -> Callable[[RewardModel], None]:
    def change(judge: RewardModel) -> None:
        optimizer = kind(judge.parameters(), lr=0.5)
        judge(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), PROMPT).mean.sum().backward()
        optimizer.step()

    return change


def load_state(judge: RewardModel) -> None:
    judge.backbone.load_state_dict(sharpen(tiny_model(seed=7)).backbone.state_dict())


@torch.no_grad()
def in_place(judge: RewardModel) -> None:
    attention(judge).mul_(1.5)


def through_data(judge: RewardModel) -> None:
    attention(judge).data.mul_(1.5)


def one_number(judge: RewardModel) -> None:
    embeddings(judge).data[opening_token(judge), 3] += 5


def other_data(judge: RewardModel) -> None:
    attention(judge).data = attention(judge).detach() * 1.5


def other_parameter(judge: RewardModel) -> None:
    language(judge).layers[1].self_attn.k_proj.weight = torch.nn.Parameter(attention(judge).detach() * 1.5)


def rows_change_places(judge: RewardModel) -> None:
    attention(judge).data = attention(judge).data.flip(0)


def columns_change_places(judge: RewardModel) -> None:
    attention(judge).data = attention(judge).data.flip(1)


def two_tokens_change_places(judge: RewardModel) -> None:
    one, other = opening_token(judge), judge.tokenizer(" cross", add_special_tokens=False)["input_ids"][0]
    embeddings(judge).data[[one, other]] = embeddings(judge).data[[other, one]]


def signs(judge: RewardModel) -> None:
    attention(judge).data.neg_()


def signs_in_one_column(judge: RewardModel) -> None:
    embeddings(judge).data[:, 3].neg_()


def a_table(judge: RewardModel) -> None:
    """A buffer: the rotary frequencies."""
    language(judge).rotary_emb.inv_freq.mul_(3)


def the_convolution(judge: RewardModel) -> None:
    language(judge).layers[0].linear_attn.conv1d.weight.data[5, 0, 3] += 5


WAYS = [
    *(step(torch.optim.SGD), step(torch.optim.AdamW), load_state, in_place, through_data, one_number, other_data),
    *(other_parameter, rows_change_places, columns_change_places, two_tokens_change_places, signs),
    *(signs_in_one_column, a_table, the_convolution),
]


@pytest.mark.parametrize("change", WAYS, ids=lambda way: way.__qualname__.split(".")[0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=["32", "64", "16"])
def test_no_way_of_changing_weights_leaves_a_stale_opening(change, dtype, judge, encoded):
    judge.backbone.to(dtype)
    before = scores(judge)
    kept = judge.backbone.shared_prefix.opening._kept
    change(judge)
    changed = scores(judge)
    assert judge.backbone.shared_prefix.opening._kept is not kept
    assert torch.equal(changed, never_kept(judge))
    stale = replace(judge.backbone.shared_prefix.opening._kept, encoded=kept.encoded)
    judge.backbone.shared_prefix.opening._kept = stale
    assert not torch.equal(scores(judge), changed), "the old encoding would have done: the case tests nothing"
    assert not torch.equal(before, changed)


def test_the_lowest_bit_of_any_weight_counts(judge, encoded):
    """Of every weight that a text passes; not of the vision tower's, which no text sees."""
    scores(judge)
    for name, weight in [*language(judge).named_parameters(), *language(judge).named_buffers()]:
        bits = weight.data.view(torch.int32)
        for place in (0, -1):
            del encoded[:]
            bits.view(-1)[place] ^= 1
            scores(judge)
            assert len(encoded) == 1, name
    del encoded[:]
    for weight in judge.backbone.vision_tower.parameters():
        weight.data.mul_(1.01)
    assert torch.equal(scores(judge), never_kept(judge))
    assert len(encoded) == 1, "that of the comparison"


def test_an_opening_is_encoded_once_for_any_number_of_calls(judge, encoded):
    """For other prompts, pictures, numbers of rows, questions and for reasoning; and no use of it changes it."""
    expected = scores(judge)
    judge.score(noise_pictures(3, ((32, 32), (40, 24)), seed=1), ["a cross", PROMPT, "a"], ["realism", "alignment"])
    judge.judge([PICTURE], PROMPT, traces=2)
    judge.requires_grad_(False)
    judge(torch.rand(2, 3, 32, 32, requires_grad=True), PROMPT).mean.sum().backward()
    assert torch.equal(scores(judge), expected)
    assert len(encoded) == 1


# --- other texts


def test_other_forms_and_another_rubric_around_one_network(judge, encoded):
    forms = replace(judge.forms, system=" judge the step .")  # as many tokens
    longer = replace(judge.forms, system=" judge the image . .")
    rubric = replace(judge.rubric, dimensions=judge.rubric.dimensions[:2])
    by_rubric = replace(judge.forms, rubric="{rubric}")
    judges = [
        judge,
        *(
            RewardModel(judge.backbone.model, judge.tokenizer, asked, texts).eval()
            for asked, texts in (
                (judge.rubric, forms),
                (judge.rubric, longer),
                (judge.rubric, by_rubric),
                (rubric, by_rubric),
            )
        ),
    ]
    for each in judges:
        each.backbone.shared_prefix.right = True
    expected = [fresh(each) for each in judges]
    for _ in range(2):
        for each, wanted in zip(judges, expected, strict=True):
            assert torch.equal(scores(each), wanted)
    assert len({tuple(ids.tolist()) for ids in encoded}) == len(judges)
    in_place(judge)
    for each in judges:
        assert torch.equal(scores(each), fresh(each))


def test_one_opening_asked_for_several_texts(judge):
    opening = Opening()
    texts = [torch.tensor(ids) for ids in ([5, 6, 7], [5, 6, 8], [5, 6], [5, 6, 7])]
    for ids in texts:
        with torch.no_grad():
            found, wanted = opening.encode(judge.backbone, ids), Opening().encode(judge.backbone, ids)
        for one, other in zip(found.cache.layers[1].left(), wanted.cache.layers[1].left(), strict=True):
            assert torch.equal(one, other)


# --- where nothing is kept


def test_nothing_is_kept_in_training(judge, encoded):
    """Dropout draws anew in every pass."""
    language(judge).layers[1].self_attn.attention_dropout = 0.5
    evaluated = scores(judge)
    judge.train()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = [judge(pixels, PROMPT).probs for _ in range(2)]
    assert not torch.equal(*drawn) and len(encoded) == 3
    assert torch.equal(scores(judge), evaluated)  # scores are taken in evaluation mode
    judge.eval()
    assert torch.equal(scores(judge), evaluated) and len(encoded) == 3


@pytest.mark.parametrize("frozen", [(), ("visual",)], ids=["all weights", "language weights"])
def test_nothing_is_kept_where_weights_want_a_gradient(judge, encoded, frozen):
    for name, weight in judge.named_parameters():
        weight.requires_grad_(not any(part in name for part in frozen))
    scores(judge)
    wanted = gradients(judge, share=False)
    found = gradients(judge)
    assert len(encoded) == 2 and found.keys() == wanted.keys()
    whole = sum(float(each.square().sum()) for each in wanted.values()) ** 0.5
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 1e-4 * wanted[name].norm() + 1e-6 * whole, name
    gradients(judge)
    assert len(encoded) == 3
    with torch.no_grad():
        gradients(judge, backward=False)
    assert len(encoded) == 3, "without a gradient, the one of the first scores is used"


def test_a_vision_tower_alone_trains_over_a_kept_opening(judge, encoded):
    for name, weight in judge.named_parameters():
        weight.requires_grad_("visual" in name)
    scores(judge)
    wanted, found = gradients(judge, share=False), gradients(judge)
    assert len(encoded) == 1 and len(found) == len(wanted) > 10
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 1e-4 * wanted[name].norm() + 1e-6, name


def test_an_adapter_alone_gets_its_gradient_through_the_opening(judge, encoded):
    judge = adapted(judge)
    scores(judge)
    wanted, found = gradients(judge, share=False), gradients(judge)
    assert len(encoded) == 2
    assert found.keys() == wanted.keys() and all("lora" in name for name in found)
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 1e-4 * wanted[name].norm() + 1e-6, name


def gradients(judge: RewardModel, share: bool = True, backward: bool = True) -> dict[str, Tensor]:
    judge.backbone.shared_prefix.right = share
    judge.zero_grad()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = (judge(pixels, PROMPT).mean @ torch.arange(1.0, 5)).square().sum()
    judge.backbone.shared_prefix.right = True
    if backward:
        loss.backward()
    return {name: weight.grad for name, weight in judge.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("side", [32, 16])
def test_an_opening_that_was_kept_in_inference_mode_serves_gradients(judge, encoded, side, short_prefixes_stay_apart):
    """Also where rows are so short that their attention saves the kept keys themselves."""
    judge.requires_grad_(False)
    with torch.inference_mode():
        scores(judge)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def gradient(judge: RewardModel) -> Tensor:
        return torch.autograd.grad(judge(pixels, "a", ["realism"]).mean.sum(), pixels)[0]

    found = gradient(judge)
    assert len(encoded) == 1
    assert torch.equal(found, gradient(copy.deepcopy(judge))) and found.abs().max() > 0


def test_a_kept_opening_holds_no_graph(judge, encoded):
    """Where adapters are trained with checkpointing, transformers has the embeddings ask for a gradient."""
    judge.requires_grad_(False)
    judge.backbone.base.enable_input_require_grads()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for _ in range(2):
        judge(pixels, PROMPT).mean.sum().backward()
    assert pixels.grad is not None and len(encoded) == 1


def test_a_copy_keeps_nothing_and_each_goes_its_own_way(judge, encoded):
    before = scores(judge)
    other = copy.deepcopy(judge)
    assert other.backbone.shared_prefix.opening._kept is None
    in_place(other)
    changed = scores(other)
    assert torch.equal(scores(judge), before) and torch.equal(scores(other), changed)
    assert not torch.equal(changed, before) and len(encoded) == 2
    assert torch.equal(changed, never_kept(other))
