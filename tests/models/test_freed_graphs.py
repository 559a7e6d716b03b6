"""Recomputing blocks under a shared prefix leaves nothing behind: no tensor outlives its call.

A checkpointed block's recomputation holds the cache of its pass. A cache that held tensors of the same graph would keep both, and
Python's collector cannot look into a graph.
"""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_model
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row

pytestmark = pytest.mark.usefixtures("short_prefixes_stay_apart")


def live_tensors() -> int:
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


def gradient(model: RewardModel, memory: str, backward: bool) -> None:
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    reward = model(pixels, "a red circle", memory=memory).mean.sum()
    if backward:
        torch.autograd.grad(reward, pixels)


def update(model: RewardModel, traces: bool) -> None:
    """A step of a trainer: forward and backward with checkpointed blocks."""
    names, words = model.rubric.dimension_names, model.encoder.label_ids.tolist()
    rows = [
        Row((0,), "a red circle", name, Trace(tuple(words[:3]), True) if traces else None) for name in names[:2] * 2
    ]
    inputs = replace(model.collate([torch.rand(3, 32, 32)], sorted(rows, key=lambda row: row.dimension)), share=True)
    model.train()
    model.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    output = model.backbone(inputs)
    loss = output.score_logits.sum()
    (loss if output.trace_log_probs is None else loss + output.trace_log_probs.sum()).backward()
    model.zero_grad(set_to_none=True)
    model.backbone.gradient_checkpointing_disable()
    model.eval()


@pytest.mark.parametrize("family", ["qwen3_5", pytest.param("llava", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "call",
    [
        *[(gradient, memory, backward) for memory in ("keep", "recompute", "one_by_one") for backward in (True, False)],
        *[(update, traces) for traces in (False, True)],
    ],
    ids=lambda call: " ".join(map(str, [call[0].__name__, *call[1:]])),
)
def test_no_tensor_outlives_its_call(family, call):
    work, *options = call
    model = tiny_model(family)
    work(model, *options)  # the self-check, tables that are made once
    before = live_tensors()
    for _ in range(3):
        work(model, *options)
    assert live_tensors() == before
    assert model.backbone.shared_prefix.right
