"""What the numeric oracles share: log-probabilities by ordinary calls of transformers, and the gradients of a real run.

Every sequence is read for itself: no padding, no shared image or prefix, no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from tests.tiny import sharpen, tiny_model
from zreward.models.reward_model import RewardModel

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "linear_layers": 0,  # the reference delta rule computes in float32 whatever the dtype
    "vision_hidden_size": 16,
    "vision_intermediate_size": 24,
    "vision_layers": 1,
    "patch_size": 8,
    "positions": 16,
}


def small_model(seed: int, **sizes: Any) -> RewardModel:
    """Two layers in float64, with opinions."""
    return sharpen(tiny_model("qwen3_5", seed, **SMALL | sizes), 6).double()


def give_the_adapter_a_say(model: RewardModel) -> None:
    """Adapters begin at zero, where half of their gradients vanish."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.backbone.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def plain_pass(
    judge: RewardModel, network: nn.Module, pictures: Sequence, prompt: str, dimension: str, tail: Sequence[int], **how
) -> tuple[Tensor, int]:
    """Logits (T, V) of one conversation that `tail` ends, by the Hugging Face model itself; and where `tail` begins."""
    encoder, layout = judge.encoder, judge.layout
    parts = [layout.patchify(judge.open(picture)) for picture in pictures]
    ids: list[int] = []
    grids = iter(parts)
    for token in encoder.encode(prompt, judge.rubric.dimension(dimension), **how):
        if token == encoder.image_token_id:
            _, (_, rows, columns) = next(grids)
            ids += [token] * (rows * columns // layout.merge**2)
        else:
            ids.append(token)
    row = torch.tensor([[*ids, *tail]])
    output = network(
        input_ids=row,
        pixel_values=torch.cat([patches for patches, _ in parts]).double(),
        image_grid_thw=torch.tensor([grid for _, grid in parts]),
        mm_token_type_ids=(row == encoder.image_token_id).int(),
        use_cache=False,
    )
    return output.logits[0], len(ids)


def token_log_probs(
    judge: RewardModel, logits: Tensor, start: int, ids: Sequence[int], temperature: float = 1.0
) -> list[Tensor]:
    """Of the tokens `ids` that stand at `start`, under the mask that sampling uses."""
    banned = torch.zeros(logits.shape[1], dtype=torch.bool)
    banned[judge.encoder.trace_ban] = True
    rows = [logits[start + t - 1].masked_fill(banned, float("-inf")) / temperature for t in range(len(ids))]
    return [row.log_softmax(-1)[token] for row, token in zip(rows, ids, strict=True)]


class Gradients(TrainerCallback):
    """Compares every trainable parameter's gradient with that of `loss(step)`, before each optimizer step of a real run."""

    def __init__(self, network: nn.Module, loss: Callable[[int], Tensor]) -> None:
        self.network, self.loss, self.losses = network, loss, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        weights = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        loss = self.loss(state.global_step)
        self.losses.append(loss.item())
        expected = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        whole = sum(float(g.square().sum()) for g in expected if g is not None) ** 0.5
        assert whole > 1e-3
        for (name, weight), wanted in zip(weights.items(), expected, strict=True):
            found = torch.zeros_like(weight) if weight.grad is None else weight.grad
            wanted = torch.zeros_like(weight) if wanted is None else wanted
            difference, size = float((found - wanted).norm()), float(wanted.norm())
            place = f"step {state.global_step}, {name}"
            assert difference <= 1e-8 * size + 1e-12 * whole, (
                f"{place}: {difference / (size + 1e-300):.1e} of {size:.1e}"
            )


def run(trainer: Trainer, network: nn.Module, loss: Callable[[int], Tensor], steps: int) -> Gradients:
    """Train for `steps` steps, and compare in each of them."""
    check = Gradients(network, loss)
    trainer.add_callback(check)
    trainer.train()
    assert len(check.losses) == steps
    return check
