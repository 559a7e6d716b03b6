"""The plan against what torch holds: weights, gradients and AdamW's states of a trained step, activations, logits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from tests.planning.conftest import SIZES
from tests.planning.peak import Held
from tests.tiny import tiny_model, tiny_records
from zreward.common.runs import RunDirectory
from zreward.models import backbone
from zreward.models.backbone import Backbone
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.planning.engines import Engine
from zreward.planning.memory import activation_bytes, logit_bytes
from zreward.planning.networks import network_of
from zreward.planning.plan import make_plan
from zreward.planning.shapes import shape_of
from zreward.planning.tokens import Lengths, Pieces
from zreward.training.run import build_trainer, load_model, prepare


class _Counted(TrainerCallback):
    """Bytes at the end of the optimizer's step, before gradients are dropped."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    def on_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs) -> None:
        weights = list(model.parameters())
        states = [
            value for one in optimizer.state.values() for value in one.values() if isinstance(value, torch.Tensor)
        ]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self.bytes = {"weights": _sum(weights), "gradients": _sum(gradients), "optimizer": _sum(states)}


def _sum(tensors: list[Any]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "frozen-vision"])
@pytest.mark.parametrize("rank", [None, 4], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_gradients_and_states_are_those_of_a_trained_step(recipe_of, machines_of, dtype, rank, frozen):
    keys: dict[str, Any] = {"model__lora_rank": rank} if rank else {}
    recipe = recipe_of(
        "sft",
        model__dtype=dtype,
        model__freeze_vision=frozen,
        trainer={"bf16": dtype == "bfloat16", "use_cpu": True},
        **keys,
    )
    model = _with_masters(load_model(recipe))
    counted = _Counted()
    trainer = build_trainer(recipe, RunDirectory(Path(recipe.out)), model)
    trainer.add_callback(counted)
    trainer.train()
    planned = make_plan(recipe, machines_of()).memory.to_dict()
    for kind, measured in counted.bytes.items():
        assert measured > 0
        assert planned[kind] == pytest.approx(measured, rel=0.03), kind


def _with_masters(model: RewardModel) -> RewardModel:
    """Trained weights in float32."""
    for weight in model.backbone.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


@pytest.mark.parametrize("rank", [None, 8], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_what_autograd_keeps(recipe_of, dtype, rank):
    keys: dict[str, Any] = {"model__lora_rank": rank} if rank else {}
    recipe = recipe_of("sft", model__dtype=dtype, **keys)
    model = tiny_model(**SIZES)
    model.backbone.to(getattr(torch, dtype))
    model = _with_masters(prepare(model, recipe))
    batch = _batch(model)
    own = {weight.untyped_storage().data_ptr() for weight in model.backbone.parameters()}
    kept: list[torch.Tensor] = []  # alive, so that no address is used twice

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value)
        return value

    low = dtype == "bfloat16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, low),
    ):
        model.backbone.train()(batch)
    measured = _sum([value for value in kept if value.untyped_storage().data_ptr() not in own])
    planned = activation_bytes(recipe, _shape(recipe), _pieces(batch), Engine(), 2 if low else 4)
    assert planned == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("rank", [None, 8], ids=["full", "lora"])
def test_checkpointing_keeps_inputs_and_one_block(recipe_of, rank):
    keys: dict[str, Any] = {"model__lora_rank": rank} if rank else {}
    recipe = recipe_of("sft", model__dtype="float32", optimizer__gradient_checkpointing=True, **keys)
    model = prepare(tiny_model(**SIZES), recipe)
    model.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.backbone.base.enable_input_require_grads()
    batch = _batch(model)
    weights = [weight for weight in model.backbone.parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)  # gradients are another kind
    with Held() as held:
        output = model.backbone.train()(batch).score_logits.sum()
        output.backward()
    planned = activation_bytes(recipe, _shape(recipe), _pieces(batch), Engine(), 4)
    assert planned == pytest.approx(held.peak, rel=0.35)


@pytest.mark.parametrize("tokens", [1000, 4096, 4096 + 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_logits_are_three_copies_of_a_chunk(recipe_of, monkeypatch, dtype, tokens):
    vocabulary, hidden = 5000, 8
    monkeypatch.setattr(backbone, "HEAD_BYTES", 4096 * vocabulary * 4)
    head = nn.Linear(hidden, vocabulary, bias=False, dtype=dtype).requires_grad_(False)
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=vocabulary))
    base = SimpleNamespace(get_output_embeddings=lambda: head, config=config)
    alone: Any = SimpleNamespace(base=base, trace_ban=torch.tensor([1]))
    states = torch.randn(tokens, hidden, dtype=dtype, requires_grad=True)
    with Held() as held:
        Backbone._token_log_probs(alone, states, torch.full((tokens,), 3), 1.0).sum().backward()
    shape: Any = SimpleNamespace(vocabulary=vocabulary)
    pieces: Any = SimpleNamespace(traced=tokens)
    assert logit_bytes(shape, pieces, Engine(), dtype.itemsize) == pytest.approx(held.peak, rel=0.03)


def _batch(model: RewardModel):
    records = tiny_records(4, 1, seed=0)
    rows = [Row((place,), record.prompt, "realism") for place, record in enumerate(records)]
    return model.collate([model.open(record.image) for record in records], rows)


def _pieces(batch) -> Pieces:
    images = len(batch.grid)
    patches = int(batch.grid.prod(1)[0])
    lengths = Lengths(0, patches // 4, patches // 4, 0, 0, 0)
    return Pieces(lengths, len(batch), batch.input_ids.numel(), 0, images, False, 1, 0.0, 0, 0, 0.0)


def _shape(recipe):
    return shape_of(network_of(recipe))
