"""Tiny models of further families, which nothing but the shared prefixes is tried with."""

from __future__ import annotations

from typing import Any

import torch

from tests.tiny import FORMS, sharpen, tiny_rubric, tiny_tokenizer
from zreward.models.reward_model import RewardModel

_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
_TEXT = {**_TOWER, "num_hidden_layers": 2, "num_key_value_heads": 1}


def gemma3(window: int = 512) -> RewardModel:
    """A layer that sees `window` places below one that sees everything."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    tokenizer = tiny_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    kinds = ["sliding_attention", "full_attention"]
    heads = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": window, "layer_types": kinds}
    config = Gemma3Config(
        text_config=Gemma3TextConfig(vocab_size=len(tokenizer), pad_token_id=0, **_TEXT, **heads),
        vision_config=SiglipVisionConfig(**_TOWER, image_size=32, patch_size=8, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_id=image,
    )
    return _judge(Gemma3ForConditionalGeneration, config, tokenizer)


def internvl() -> RewardModel:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        text_config=Qwen2Config(vocab_size=len(tokenizer), **_TEXT),
        vision_config=InternVLVisionConfig(**_TOWER, image_size=[32, 32], patch_size=[8, 8]),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        image_seq_length=4,
    )
    return _judge(InternVLForConditionalGeneration, config, tokenizer)


def _judge(kind: Any, config: Any, tokenizer: Any) -> RewardModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = kind(config)
        for name, weight in network.named_parameters():
            if "mm_input_projection" in name:
                torch.nn.init.normal_(weight)  # begins at zero: pictures would not be seen
    return sharpen(RewardModel(network, tokenizer, tiny_rubric(), FORMS, max_trace_tokens=8).eval())
