"""Tiny image towers and language models of the real classes, as folders of pretrained parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny import tiny_tokenizer

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3}
TOWER = {**SIZES, "image_size": 32, "patch_size": 8}
TEXT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + ' ' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)
"""As language models have them: a content that is no text is a TypeError inside Jinja."""


def write_tower(kind: str, folder: Path) -> Path:
    """clip (both of its towers), clip-vision, siglip or dinov2: 4 x 4 patches, and a class token but for siglip."""
    import transformers as t

    made: dict[str, Any] = {
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(
                text_config={**SIZES, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "projection_dim": 16},
                vision_config={**TOWER, "projection_dim": 16},
                projection_dim=16,
            )
        ),
        "clip-vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**TOWER)),
        "siglip": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**TOWER)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**{k: v for k, v in TOWER.items() if k != "intermediate_size"})),
    }
    _seeded(made[kind]).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}')
    return folder


def write_language(folder: Path, template: str | None = TEXT_TEMPLATE, tied: bool = True) -> Path:
    """A Llama whose tokenizer has no token for images."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    sizes = {**SIZES, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 4096}
    config = LlamaConfig(**sizes, tie_word_embeddings=tied)
    _seeded(lambda: LlamaForCausalLM(config)).save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def _seeded(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make()
