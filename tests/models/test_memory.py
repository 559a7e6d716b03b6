"""What a gradient to the pixels keeps: the same gradient from fewer kept bytes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

import zreward.models.memory
from tests.tiny import COMPARISON, noise_pictures, tiny_model
from zreward.common.errors import InputError
from zreward.models.memory import choose_memory, recomputed_blocks
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row

PROMPTS = ["a red circle", "a small blue cross left of a large green square"]


def pixels(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)


def gradient(model, memory) -> torch.Tensor:
    shown = pixels()
    reward = (model(shown, PROMPTS, memory=memory).mean @ (torch.arange(4.0) + 1)).sum()
    return torch.autograd.grad(reward, shown)[0]


@pytest.mark.parametrize("memory", ["recompute", "one_by_one"])
def test_the_gradient_is_that_of_keeping_everything(family_model, memory):
    kept, found = gradient(family_model, "keep"), gradient(family_model, memory)
    assert kept.abs().max() > 0
    assert (kept - found).norm() <= 1e-4 * kept.norm()
    assert not any(part.training for part in family_model.modules())  # the blocks too are as before


def kept_bytes(call) -> int:
    """Of all distinct tensors that autograd saves, but for the weights."""
    seen: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_leaf:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep the node that made it

    with saved_tensors_hooks(save, lambda tensor: tensor):
        result = call()
    assert result.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_vl"])
def test_eight_layers_keep_a_sixth_of_it(family):
    model = tiny_model(family, layers=8, linear_layers=2 if family == "qwen3_5" else 0, vision_layers=4)
    model.requires_grad_(False)
    shown = pixels(1)

    def call(memory):
        return lambda: model(shown, PROMPTS[:1], memory=memory).mean.sum()

    kept, recomputed = kept_bytes(call("keep")), kept_bytes(call("recompute"))
    assert recomputed <= kept / 6, (recomputed, kept)


def test_one_by_one_keeps_the_pictures_only():
    model = tiny_model().requires_grad_(False)
    shown = pixels()
    assert kept_bytes(lambda: model(shown, PROMPTS, memory="one_by_one").mean.sum()) < 200_000


# --- what is chosen


def backbone(vision: dict[str, int], dtype: torch.dtype = torch.float16) -> SimpleNamespace:
    """All that a choice asks of a model with three blocks of ten numbers: its sizes and where it is."""
    text = SimpleNamespace(num_hidden_layers=3, hidden_size=10)
    config = SimpleNamespace(get_text_config=lambda: text, vision_config=SimpleNamespace(**vision))
    base = SimpleNamespace(config=config, dtype=dtype)
    return SimpleNamespace(base=base, label_ids=torch.zeros(9))


@pytest.mark.parametrize(
    ("vision", "dtype", "numbers"),
    [
        ({"depth": 5, "hidden_size": 7, "spatial_merge_size": 3}, torch.float16, 3 * 10 + 9 * 5 * 7),
        ({"num_hidden_layers": 5, "hidden_size": 7}, torch.float32, 3 * 10 + 5 * 7),
        ({"hidden_size": 7}, torch.float64, 3 * 10),
    ],
    ids=["patches", "no merging", "depth unknown"],
)
def test_the_fastest_that_fits_into_half_of_what_is_free(monkeypatch, vision, dtype, numbers):
    """100 tokens keep 30 times a block's numbers, or 3 times where blocks are recomputed: twice that has to be free."""
    kept = 100 * 30 * numbers * dtype.itemsize
    for free, several, one in (
        (2 * kept, "keep", "keep"),
        (2 * kept - 1, "recompute", "recompute"),
        (2 * kept // 10, "recompute", "recompute"),
        (2 * kept // 10 - 1, "one_by_one", "recompute"),
        (0, "one_by_one", "recompute"),
    ):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert choose_memory(backbone(vision, dtype), tokens=100, pictures=2) == several
        assert choose_memory(backbone(vision, dtype), tokens=100, pictures=1) == one


@pytest.fixture
def asked(model, monkeypatch):
    """A model whose second dimension takes more tokens than its first and last, and what every choice is asked with."""
    first, second, *_, last = model.rubric.dimensions
    dimensions = (first, replace(second, name="xyz", title="xyz", question="rate the xyz"), last)
    rubric = replace(model.rubric, dimensions=dimensions)
    judge = RewardModel(model.backbone.model, model.tokenizer, rubric, model.forms).eval()
    found = []
    monkeypatch.setattr(zreward.models.memory, "choose_memory", lambda *given: found.append(given) or "recompute")
    return judge, found


def tokens_of(judge: RewardModel, images: list[torch.Tensor], rows: list[Row]) -> int:
    """Of all rows; `length` counts the placeholder of each picture as well."""
    return int(judge.collate(images, rows).attention_mask.sum()) + len(images)


@pytest.mark.parametrize("names", [("alignment", "xyz"), ("xyz", "alignment")])
def test_a_choice_is_asked_with_the_tokens_of_every_picture_and_the_first_question(asked, names):
    judge, found = asked
    judge(pixels(), PROMPTS, names)
    rows = [Row((i,), prompt, names[0]) for i, prompt in enumerate(PROMPTS)]
    assert found == [(judge.backbone, tokens_of(judge, list(pixels()), rows), 2)]


def test_a_reference_counts(asked):
    judge, found = asked
    judge = comparing(judge, COMPARISON).eval()
    references = noise_pictures(2, ((64, 64), (32, 48)))
    judge(pixels(), PROMPTS, ["xyz", "alignment"], references=references)
    images = [*pixels(), *map(judge.open, references)]
    rows = [Row((2 + i, i), prompt, "xyz") for i, prompt in enumerate(PROMPTS)]
    assert found == [(judge.backbone, tokens_of(judge, images, rows), 2)]


@pytest.mark.parametrize(
    ("memory", "passes"), [("keep", [(2, 2)]), ("recompute", [(2, 2)]), ("one_by_one", [(1, 1), (1, 1)])]
)
def test_a_pass_is_given_its_pictures_and_their_references(model, monkeypatch, memory, passes):
    judge = comparing(model, COMPARISON).eval()
    references = noise_pictures(2, ((64, 64), (32, 48)))
    expected = judge(pixels().detach(), PROMPTS, references=references).probs
    seen, whole = [], judge.distribution_of

    def watched(shown, prompts, names):
        seen.append((len(shown), len([one for one in shown if len(one) == 2])))
        return whole(shown, prompts, names)

    monkeypatch.setattr(judge, "distribution_of", watched)
    shown = pixels()
    found = judge(shown, PROMPTS, references=references, memory=memory).probs
    assert seen == passes
    assert torch.allclose(found, expected, atol=1e-5)


# --- blocks


def test_blocks_of_overlapping_calls_are_put_back_by_the_last(model):
    blocks = [part for part in model.modules() if hasattr(part, "gradient_checkpointing")]
    before = [dict(vars(block)) for block in blocks]
    first, *others = (recomputed_blocks(model.backbone) for _ in range(3))
    first.__enter__()
    for other in others:
        other.__enter__()
    for other in others:
        other.__exit__(None, None, None)
        assert any(block.gradient_checkpointing for block in blocks)
    first.__exit__(None, None, None)
    # What the switch needs stays: another thread may have seen it on.
    stays = ("_gradient_checkpointing_func", "_can_checkpoint_with_cache")
    for block, kept in zip(blocks, before, strict=True):
        assert {name: value for name, value in vars(block).items() if name in kept or name not in stays} == kept


def test_blocks_that_training_recomputes_are_put_back_as_they_were():
    backbone = tiny_model().backbone
    backbone.gradient_checkpointing_enable()
    blocks = [part for part in backbone.modules() if isinstance(part, GradientCheckpointingLayer)]
    for block in blocks:
        block._can_checkpoint_with_cache = False
    before = [dict(vars(block)) for block in blocks]
    with recomputed_blocks(backbone):
        for block, kept in zip(blocks, before, strict=True):
            assert block._gradient_checkpointing_func is not kept["_gradient_checkpointing_func"]
            assert block.gradient_checkpointing and block.training and block._can_checkpoint_with_cache
    assert len(blocks) == 4 and [dict(vars(block)) for block in blocks] == before


def test_an_unknown_memory_is_refused(model):
    with pytest.raises(InputError, match="memory is 'less'; expected one of"):
        model(pixels(), PROMPTS, memory="less")


def test_blocks_that_a_trainer_checkpoints_do_so_again_afterwards():
    model = tiny_model()
    model.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    blocks = list(zreward.models.memory._blocks(model.backbone))
    before = [dict(vars(block)) for block in blocks]
    with recomputed_blocks(model.backbone):
        assert all(block._gradient_checkpointing_func.keywords == {"use_reentrant": False} for block in blocks)
    for block, was in zip(blocks, before, strict=True):
        assert block.gradient_checkpointing is was["gradient_checkpointing"] is True
        assert block._gradient_checkpointing_func is was["_gradient_checkpointing_func"]
