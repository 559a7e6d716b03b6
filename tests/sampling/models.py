"""Tiny models whose heads vLLM's CPU kernels take, and their engines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.tiny import noise_pictures, sharpen, tiny_model
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.sampling.options import VllmOptions
from zreward.sampling.sampler import EngineSampler

FAMILIES = ("qwen3_vl", "qwen3_5")
OPTIONS = VllmOptions(max_length=512, max_sequences=32, cache_gib=0.25)
PROMPTS = ["a red circle", "two blue squares left of a cross", "a green triangle"]
NAMES = ("realism", "aesthetics")
SIZES = ((32, 32), (40, 50), (70, 33))
"""The last two are resized, to sizes that hold no whole number of 8-bit steps."""


def vllm_model(family: str, seed: int = 0, **sizes: Any) -> RewardModel:
    """Heads of 32, attention only; weights so large that every answer depends on picture and text."""
    wide = {"hidden_size": 64, "heads": 2, "vision_hidden_size": 64, "vision_heads": 2, "linear_layers": 0}
    return sharpen(tiny_model(family, seed, trace_tokens=24, **wide | sizes), 2.0)


def pictures(model: RewardModel) -> list[Tensor]:
    return [model.decode(picture) for picture in noise_pictures(3, SIZES)]


def rows() -> list[Row]:
    return [Row((i,), prompt, name) for i, prompt in enumerate(PROMPTS) for name in NAMES]


def sampler_of(model: RewardModel, **options: Any) -> EngineSampler:
    settings = VllmOptions(**vars(OPTIONS) | options)
    return EngineSampler(model, settings, (pictures(model), rows()))


@torch.no_grad()
def own_answers(model: RewardModel, answered: list[Row], temperature: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """Label probabilities (N, S), and each row's log-probabilities of its trace, of the model itself."""
    inputs = model.collate(pictures(model), answered)
    output = model.backbone(inputs, temperature)
    probs = output.score_logits.softmax(-1)
    if output.trace_log_probs is None or inputs.trace_mask is None:
        return probs, []
    return probs, [values[mask.bool()] for values, mask in zip(output.trace_log_probs, inputs.trace_mask, strict=True)]
