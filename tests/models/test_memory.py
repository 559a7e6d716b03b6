"""What a gradient to the pixels keeps: the same gradient from fewer kept bytes."""

from __future__ import annotations

import psutil
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.models.memory import choose_memory, recomputed_blocks

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


@pytest.mark.parametrize(("free", "expected"), [(10**12, "keep"), (2 * 10**6, "recompute"), (10**4, "one_by_one")])
def test_what_is_free_decides(model, monkeypatch, free, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Free", (), {"available": free}))
    assert choose_memory(model.backbone, tokens=100, pictures=2) == expected
    assert choose_memory(model.backbone, tokens=100, pictures=1) == expected.replace("one_by_one", "recompute")


def test_blocks_of_overlapping_calls_are_put_back_by_the_last(model):
    blocks = [part for part in model.modules() if hasattr(part, "gradient_checkpointing")]
    first, second = recomputed_blocks(model.backbone), recomputed_blocks(model.backbone)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert any(block.gradient_checkpointing for block in blocks)
    second.__exit__(None, None, None)
    assert not any(block.gradient_checkpointing or block.training for block in blocks)


def test_an_unknown_memory_is_refused(model):
    with pytest.raises(InputError, match="memory is 'less'; expected one of"):
        model(pixels(), PROMPTS, memory="less")
