"""Tiny random models of the real classes, with pictures and records for them: what the core's tests score, train and serve.

Nothing of the built-in world is used here. A model takes milliseconds to make and to run.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from zreward.data import Record
from zreward.models.pairwise import PairwiseQuestion
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import SCRATCH_FORMS, ScratchSpec, build_model, form_words, learn_tokenizer
from zreward.rubric import Dimension, Rubric

FAMILIES = ("qwen3_5", "qwen3_vl", "llava")
DIMENSIONS = ("alignment", "realism", "aesthetics", "plausibility")
FORMS = SCRATCH_FORMS
COMPARISON = PairwiseQuestion("1", "9", " above", " rate the {name} now", FORMS.answer_prefix)
"""The small vocabulary has neither yes nor no: the lowest and the highest label stand for the answers."""
WORDS = (
    *("a", "an", "the", "two", "large", "small", "red", "blue", "green", "circle", "square", "triangle", "cross"),
    *("left", "right", "of", "above", "below", "and", "is", "too"),
)
SPEC = ScratchSpec(
    hidden_size=32,
    intermediate_size=48,
    heads=2,
    layers=2,
    linear_layers=1,
    vision_hidden_size=32,
    vision_intermediate_size=48,
    vision_heads=2,
    vision_layers=2,
    patch_size=4,
    positions=64,
)
"""One gated-delta layer below one of attention; a picture of 32 x 32 pixels is 16 tokens."""


def tiny_rubric() -> Rubric:
    """The four usual dimensions in short words, on nine half-point bins."""
    anchors: dict[int | float, str] = {1: "all wrong", 5: "all right"}
    dimensions = (Dimension(name, name.capitalize(), f"rate the {name}", anchors) for name in DIMENSIONS)
    return Rubric("tiny", "1", dimensions=tuple(dimensions))


def tiny_tokenizer() -> Any:
    """The forms' words, the dimensions, the labels and `WORDS` are one token each; anything else is bytes."""
    return learn_tokenizer([*form_words(FORMS), *DIMENSIONS, *tiny_rubric().labels, "above", *WORDS])


def tiny_model(family: str = "qwen3_5", seed: int = 0, trace_tokens: int = 8, **sizes: Any) -> RewardModel:
    """An untrained reward model of one of `FAMILIES`; `sizes` are other ones than those of `SPEC`."""
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _llava(tokenizer) if family == "llava" else build_model(family, replace(SPEC, **sizes), tokenizer)
    return RewardModel(model, tokenizer, tiny_rubric(), FORMS, max_trace_tokens=trace_tokens).eval()


def with_keys(raw: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """A recipe's nested dictionaries, changed in place by dotted keys, with __ for dots."""
    for key, value in keys.items():
        *parents, last = key.split("__")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return raw


def sharpen(model: RewardModel, factor: float = 8.0) -> RewardModel:
    """Untrained models answer almost the same to everything; larger weights make a difference in the input visible."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(factor)
    return model


def _llava(tokenizer: Any) -> torch.nn.Module:
    """A model of the other kind: one fixed image size, a CLIP tower, another language model."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = LlavaConfig(
        text_config=LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer)),
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=32),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
    )
    return LlavaForConditionalGeneration(config)


def tiny_prompt_tokenizer() -> Any:
    """What a generator's text encoder reads: one token a word of `WORDS`, padded to 18 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<start>", "<end>", "<unknown>", *WORDS]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unknown>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=18, **special)


def noise_pictures(count: int, sizes: tuple[tuple[int, int], ...] = ((32, 32),), seed: int = 0) -> list[Image.Image]:
    """`count` pictures of noise, their (width, height) taken from `sizes` in turn."""
    rng = np.random.default_rng(seed)
    chosen = [sizes[i % len(sizes)] for i in range(count)]
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in chosen]


def tiny_records(prompts: int, images: int, seed: int) -> list[Record]:
    """`images` pictures of each of `prompts` prompts, rated by one person on every dimension, on the bins."""
    rng = random.Random(seed)
    bins = tiny_rubric().scale.bins.tolist()
    shown = iter(noise_pictures(prompts * images, seed=seed))
    texts = [f"a {rng.choice(('red', 'blue', 'green'))} circle above {seed} {n}" for n in range(prompts)]
    return [
        Record(text, next(shown), {name: rng.choice(bins) for name in DIMENSIONS})
        for text in texts
        for _ in range(images)
    ]
