"""Untrained reward models of both families, small enough to run in milliseconds, and pictures to show them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from zreward.models.reward_model import RewardModel
from zreward.world.base_models import WORLD_FORMS, make_base, make_tokenizer, world_rubric


def sharpen(model: RewardModel) -> RewardModel:
    """Untrained models answer almost the same to everything; larger weights make a difference in the input visible."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(8)
    model.max_trace_tokens = 8
    return model.eval()


def make_llava(seed: int) -> RewardModel:
    """A model of the other kind: one fixed image size, a CLIP tower, another language model."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = LlavaConfig(
        text_config=LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer)),
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=32),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
    )
    return RewardModel(LlavaForConditionalGeneration(config), tokenizer, world_rubric(), WORLD_FORMS)


@pytest.fixture(scope="session", params=["qwen3_5", "qwen3_vl", "llava"])
def family_model(request) -> RewardModel:
    """One model per family; Qwen3.5's has a linear-attention layer. Tests do not change it."""
    return sharpen(make_llava(3) if request.param == "llava" else make_base("small", request.param, seed=3))


@pytest.fixture(scope="session")
def model() -> RewardModel:
    return sharpen(make_base("small", seed=4))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """32 pictures of different sizes and shapes."""
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (40, 24), (16, 48), (64, 64)]
    noise = [rng.integers(0, 256, (*sizes[i % 4][::-1], 3), dtype=np.uint8) for i in range(32)]
    return [Image.fromarray(array) for array in noise]
