"""The gradients of a real training run, compared in every optimizer step with those of a loss that an oracle gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from tests.plain_model import assert_same_gradients


class Gradients(TrainerCallback):
    """Compares every trainable parameter's gradient with that of `loss(step)`, before each optimizer step of a real run."""

    def __init__(self, network: nn.Module, loss: Callable[[int], Tensor]) -> None:
        self.network, self.loss, self.losses = network, loss, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        weights = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        loss = self.loss(state.global_step)
        self.losses.append(loss.item())
        expected = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        found = {name: weight.grad for name, weight in weights.items()}
        assert_same_gradients(found, dict(zip(weights, expected, strict=True)), f"step {state.global_step}")


def run(trainer: Trainer, network: nn.Module, loss: Callable[[int], Tensor], steps: int) -> Gradients:
    """Train for `steps` steps, and compare in each of them."""
    check = Gradients(network, loss)
    trainer.add_callback(check)
    trainer.train()
    assert len(check.losses) == steps
    return check
