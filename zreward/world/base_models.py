"""The world's base models: tiny Qwen3.5-architecture vision-language models with a small tokenizer.

`large` and `small` stand to each other like 27B to 9B. Their weights are shipped with the package and made again by
`zreward world pretrain`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric
from zreward.world import explain, grammar

WEIGHTS = Path(__file__).parent / "weights"
SIZES = ("large", "small")
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
)
WORLD_FORMS = PromptForms(
    system=" judge the image .",
    prompt=" {prompt} .",
    direct=" {question} now",
    reasoning=" {question} step by step",
    reasoning_start="<think>",
    stop_marker="</think>",
    answer_prefix=" level ",
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }}"
    "{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)
_TEXT = {
    "large": {"hidden_size": 128, "intermediate_size": 320, "num_attention_heads": 4, "layers": 4},
    "small": {"hidden_size": 80, "intermediate_size": 192, "num_attention_heads": 4, "layers": 3},
}
_VISION = {
    "large": {"hidden_size": 64, "intermediate_size": 192, "depth": 3, "num_heads": 4},
    "small": {"hidden_size": 48, "intermediate_size": 128, "depth": 2, "num_heads": 4},
}


def world_rubric() -> Rubric:
    """The rubric that the base models were pretrained to speak of: the four default dimensions in short words."""
    return Rubric.from_yaml(Path(__file__).parents[1] / "rubrics" / "world.yaml")


def make_tokenizer():
    """Qwen3.5's byte-level tokenizer with a small vocabulary: every word of the world is one token, anything else is bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    rubric = world_rubric()
    texts = [WORLD_FORMS.system, WORLD_FORMS.direct, WORLD_FORMS.reasoning, WORLD_FORMS.answer_prefix]
    texts += [dimension.question for dimension in rubric.dimensions]
    words = [w for text in texts for w in text.replace("{question}", "").split()]
    words += ["system", "user", "assistant", *grammar.vocabulary(), *explain.vocabulary()]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator([f" {word}" for word in dict.fromkeys(words)], trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Qwen3_5Tokenizer(
        vocab=learned["vocab"], merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(size: str, vocabulary: int, tokenizer: Any, family: str = "qwen3_5") -> torch.nn.Module:
    """A randomly initialised model of the real class: `size` large or small, `family` qwen3_5 or qwen3_vl."""
    text = dict(_TEXT[size])
    layers = text.pop("layers")
    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    heads = text["num_attention_heads"]
    head_dim = text["hidden_size"] // heads
    text |= {
        "vocab_size": vocabulary,
        "num_hidden_layers": layers,
        "num_key_value_heads": heads,
        "head_dim": head_dim,
        "max_position_embeddings": 4096,
    }
    vision = _VISION[size] | {
        "patch_size": 4,
        "temporal_patch_size": 1,
        "spatial_merge_size": 2,
        "num_position_embeddings": 64,
        "out_hidden_size": text["hidden_size"],
    }
    if family == "qwen3_vl":
        from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

        rope = {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": _sections(head_dim // 2),
            "mrope_interleaved": True,
        }
        config = Qwen3VLConfig(
            text_config=text | {"rope_parameters": rope, "tie_word_embeddings": True},
            vision_config=vision | {"deepstack_visual_indexes": [0]},
            tie_word_embeddings=True,
            **ids,
        )
        return Qwen3VLForConditionalGeneration(config)
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "mrope_section": _sections(head_dim // 2),
        "mrope_interleaved": True,
    }
    # One gated-delta layer first, attention above it: the reference delta rule is slow without its GPU kernels.
    text |= {
        "layer_types": ["linear_attention"] + ["full_attention"] * (layers - 1),
        "linear_num_key_heads": heads,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": head_dim,
        "linear_value_head_dim": head_dim,
        "rope_parameters": rope,
        "tie_word_embeddings": True,
    }
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    return Qwen3_5ForConditionalGeneration(config)


def _sections(half: int) -> list[int]:
    """How rotary frequencies are shared by time, height and width."""
    third = half // 3
    return [half - 2 * third, third, third]


def make_base(size: str, family: str = "qwen3_5", seed: int = 0) -> RewardModel:
    """An untrained world base model with the world's rubric, tokenizer and prompt forms."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_model(size, len(tokenizer), tokenizer, family)
    return RewardModel(model, tokenizer, world_rubric(), WORLD_FORMS, max_trace_tokens=40)


def load_base(size: str, **options: Any) -> RewardModel:
    """The shipped base model of that size."""
    return RewardModel.from_pretrained(WEIGHTS / size, **options)
