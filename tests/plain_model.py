"""A small float64 model, and its log-probabilities by ordinary calls of transformers, for numeric oracles.

Every sequence is read for itself: no padding, no shared image or prefix, no cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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


def compute_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where transformers' norms ask for float32."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)


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


def assert_same_gradients(
    found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None], where: str, tolerance: float = 1e-8
) -> None:
    """Every parameter's gradient, relative to its norm; what is below 1e-12 of the whole gradient is rounding."""
    assert found.keys() == expected.keys()
    whole = sum(float(g.square().sum()) for g in expected.values() if g is not None) ** 0.5
    assert whole > 1e-4, f"{where}: nothing to compare"
    for name, wanted in expected.items():
        given = found[name]
        if given is None or wanted is None:
            present = given if wanted is None else wanted
            assert present is None or float(present.norm()) <= 1e-12 * whole, f"{where}, {name}: one has no gradient"
            continue
        difference, size = float((given - wanted).norm()), float(wanted.norm())
        assert difference <= tolerance * size + 1e-12 * whole, f"{where}, {name}: {difference:.1e} off {size:.1e}"
