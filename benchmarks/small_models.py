"""Models of about 20 M parameters with random weights of the real classes: what the cost benchmarks measure.

Imports only what commit 07f77a1 has as well: `against.py` builds the same sizes with the code of either commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, build_model, learn_tokenizer
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

WORDS = ("a", "dog", "near", "one", "old", "stone", "bridge", "while", "light", "rain", "falls", "on", "green", "hills")
SIZES: dict[str, Any] = {"hidden_size": 384, "intermediate_size": 1024}
VISION: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 1024}
FORMS = ("system", "rubric", "prompt", "direct", "reasoning", "answer_prefix")  # older commits have no `rubric`


def build(
    family: str, image_tokens: int, forms: PromptForms | None = None, vision_layers: int = 6
) -> tuple[RewardModel, int]:
    """A model with the default rubric and, by default, prompt forms; the side of the pictures that are so many tokens.

    With six layers the vision tower does 1.3 times the decoder's work on a picture; with one, a fifth, as in Qwen3-VL-8B.
    """
    rubric, forms = Rubric.default(), forms or PromptForms()
    tokenizer = tokenizer_of(rubric, forms)
    torch.manual_seed(0)
    side = round(image_tokens**0.5) * 32
    if family == "llava":
        side //= 2
        network = _llava(tokenizer, side, vision_layers)
    else:
        spec = ScratchSpec(
            **SIZES, heads=6, layers=8, linear_layers=3 if family == "qwen3_5" else 0, vision_hidden_size=256,
            vision_intermediate_size=1024, vision_heads=4, vision_layers=vision_layers, patch_size=16,
            merge_size=2, positions=1024,
        )  # fmt: skip
        network = build_model(family, spec, tokenizer)
    policy = ResolutionPolicy(longest_side=side)
    return RewardModel(network, tokenizer, rubric, forms, policy).eval().requires_grad_(False), side


def tokenizer_of(rubric: Rubric, forms: PromptForms) -> Any:
    """One that knows every word of the rubric, of the forms and of the prompts."""
    texts = [getattr(forms, name, "") for name in FORMS]
    texts += [text for one in rubric.dimensions for text in (one.title, one.question, *one.anchors.values())]
    words = {word for text in texts for word in re.findall(r"\w+|[^\w\s{}]", text)}
    return learn_tokenizer(sorted(words | {*WORDS, *rubric.labels, "system", "user", "assistant"}))


def _llava(tokenizer: Any, side: int, vision_layers: int) -> nn.Module:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        **SIZES, num_attention_heads=6, num_hidden_layers=8, num_key_value_heads=6, vocab_size=len(tokenizer),
        max_position_embeddings=4096,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        **VISION, num_attention_heads=4, num_hidden_layers=vision_layers, image_size=side, patch_size=16
    )
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, image_token_id=image))


def pictures_and_prompts(side: int, count: int = 2) -> tuple[list[Image.Image], list[str]]:
    """Noise, and prompts of 60 words."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]
    return pictures, [" ".join(rng.choice(WORDS, 60)) for _ in pictures]


def photograph(side: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise, as photographs are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side
    colours = np.stack([rows, columns, rows * columns], -1) * 220 + rng.normal(10, 6, (side, side, 3))
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def passes_of(model: RewardModel, call: Callable[[], object]) -> list[tuple[int, bool]]:
    """Of every pass through the first decoder layer: its tokens, padding counted, and whether a gradient is wanted."""
    language = model.backbone.base.model.language_model
    layer = next(each for each in language.modules() if isinstance(each, GradientCheckpointingLayer))
    seen: list[tuple[int, bool]] = []

    def count(module: nn.Module, args: tuple, options: dict[str, Any]) -> None:
        hidden = args[0] if args else options["hidden_states"]
        seen.append((hidden.shape[0] * hidden.shape[1], torch.is_grad_enabled()))

    handle = layer.register_forward_pre_hook(count, with_kwargs=True)
    call()
    handle.remove()
    return seen
