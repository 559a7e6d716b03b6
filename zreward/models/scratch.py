"""Models that start from random weights: a small architecture of the real class, a tokenizer learned from the prompts.

For data sets that bring their own world and machines without pretrained weights; `model.name: scratch:qwen3_5` in a
recipe. The built-in world's base models are made of the same parts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from zreward.common.errors import InputError
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

PREFIX = "scratch:"
MOST_PARAMETERS = 10**9
FAMILIES = ("qwen3_5", "qwen3_vl")
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
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }}"
    "{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)
SCRATCH_FORMS = PromptForms(
    system=" judge the image .",
    rubric="",
    prompt=" {prompt} .",
    direct=" rate the {name} now",
    reasoning=" rate the {name} step by step",
    reasoning_start="<think>",
    stop_marker="</think>",
    answer_prefix=" level ",
)
"""Short texts: a model that starts from nothing cannot read anchors, so it gets none."""


@dataclass(frozen=True)
class ScratchSpec:
    """The architecture's sizes. The default has about 0.9 M parameters and sees a 96 x 96 image as 36 tokens.

    Heads of 32 run markedly faster on CPUs than narrower ones.
    """

    hidden_size: int = 96  # language model
    intermediate_size: int = 256  # its feed-forward layers
    heads: int = 3  # attention heads of a layer
    layers: int = 2  # of the language model
    linear_layers: int = 0  # of them gated-delta layers, the lowest ones (qwen3_5): slow without their GPU kernels
    vision_hidden_size: int = 96  # vision tower
    vision_intermediate_size: int = 288  # its feed-forward layers
    vision_heads: int = 3  # attention heads of a layer
    vision_layers: int = 4  # of the vision tower
    patch_size: int = 8  # pixels
    merge_size: int = 2  # patches a side that become one image token
    positions: int = 144  # learned patch positions, a square number; other image sizes are interpolated
    initializer_range: float | None = None  # standard deviation of the first weights; default: the architecture's

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not value >= (0 if item.name == "linear_layers" else 1e-9):
                raise InputError(f"scratch: {item.name} is {value}, expected more than 0")
        for width, heads in ((self.hidden_size, self.heads), (self.vision_hidden_size, self.vision_heads)):
            if width % (4 * heads):
                raise InputError(f"scratch: width {width} with {heads} heads; expected a multiple of {4 * heads}")
        if self.parameters > MOST_PARAMETERS:
            raise InputError(
                f"scratch: these sizes make about {self.parameters:.1e} parameters, expected at most {MOST_PARAMETERS:.0e}; "
                "start a model of that size from pretrained weights"
            )
        if round(self.positions**0.5) ** 2 != self.positions:
            raise InputError(f"scratch: positions is {self.positions}, expected a square number such as 144")
        if self.linear_layers > self.layers:
            raise InputError(f"scratch: linear_layers is {self.linear_layers} of {self.layers} layers")

    @property
    def parameters(self) -> int:
        """Weights without the vocabulary's, roughly."""
        wide, seen = self.hidden_size, self.vision_hidden_size
        language = self.layers * wide * (4 * wide + 3 * self.intermediate_size)
        vision = self.vision_layers * seen * (4 * seen + 2 * self.vision_intermediate_size)
        ends = seen * (3 * self.patch_size**2 + self.positions) + (seen * self.merge_size**2) * (
            seen * self.merge_size**2 + wide
        )
        return int(language + vision + ends)


def make_scratch(
    family: str,
    spec: ScratchSpec,
    prompts: Iterable[str],
    rubric: Rubric,
    resolution: ResolutionPolicy | None = None,
    max_trace_tokens: int = 40,
) -> RewardModel:
    """An untrained reward model whose words are those of `prompts`. Weights come from torch's global random state."""
    if family not in FAMILIES:
        raise InputError(f"{PREFIX}{family} is unknown; expected one of {[PREFIX + name for name in FAMILIES]}")
    names = [name for dimension in rubric.dimensions for name in dimension.name.split()]
    tokenizer = learn_tokenizer([*form_words(SCRATCH_FORMS), *names, *rubric.labels, *shared_words(prompts)])
    model = build_model(family, spec, tokenizer)
    return RewardModel(model, tokenizer, rubric, SCRATCH_FORMS, resolution, max_trace_tokens=max_trace_tokens)


def shared_words(prompts: Iterable[str], least: int = 2) -> list[str]:
    """Words of at least `least` different prompts, in alphabetical order.

    A word of one prompt only could be memorised but not understood: it stays spelled in pieces.
    """
    counts = Counter(word for prompt in dict.fromkeys(prompts) for word in set(prompt.replace(",", " ").split()))
    return sorted(word for word, count in counts.items() if count >= least)


def form_words(forms: PromptForms) -> list[str]:
    """The words of the texts that stand around every prompt, and of the chat template's roles."""
    texts = [forms.system, forms.prompt, forms.direct, forms.reasoning, forms.answer_prefix]
    words = [word for text in texts for word in text.split() if "{" not in word]
    return [*words, "system", "user", "assistant"]


def learn_tokenizer(words: Sequence[str]) -> Any:
    """Qwen3.5's byte-level tokenizer with a small vocabulary: every given word is one token, anything else is bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator([f" {word}" for word in dict.fromkeys(words)], trainer)
    learned = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Qwen3_5Tokenizer(
        vocab=learned["vocab"], merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(family: str, spec: ScratchSpec, tokenizer: Any) -> torch.nn.Module:
    """A randomly initialised model of the real class (qwen3_5 or qwen3_vl) for this tokenizer."""
    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    head_dim = spec.hidden_size // spec.heads
    text: dict[str, Any] = {
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_attention_heads": spec.heads,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.heads,
        "head_dim": head_dim,
        "max_position_embeddings": 4096,
    }
    vision: dict[str, Any] = {
        "hidden_size": spec.vision_hidden_size,
        "intermediate_size": spec.vision_intermediate_size,
        "depth": spec.vision_layers,
        "num_heads": spec.vision_heads,
        "patch_size": spec.patch_size,
        "temporal_patch_size": 1,
        "spatial_merge_size": spec.merge_size,
        "num_position_embeddings": spec.positions,
        "out_hidden_size": spec.hidden_size,
    }
    if spec.initializer_range is not None:
        text["initializer_range"] = vision["initializer_range"] = spec.initializer_range
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": _sections(head_dim // 2),
        "mrope_interleaved": True,
    }
    if family == "qwen3_vl":
        from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

        vl_config = Qwen3VLConfig(
            text_config=text | {"rope_parameters": rope, "tie_word_embeddings": True},
            vision_config=vision | {"deepstack_visual_indexes": [0]},
            tie_word_embeddings=True,
            **ids,
        )
        return Qwen3VLForConditionalGeneration(vl_config)
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    attention = ["full_attention"] * (spec.layers - spec.linear_layers)
    text |= {
        "layer_types": ["linear_attention"] * spec.linear_layers + attention,
        "linear_num_key_heads": spec.heads,
        "linear_num_value_heads": spec.heads,
        "linear_key_head_dim": head_dim,
        "linear_value_head_dim": head_dim,
        "rope_parameters": rope | {"partial_rotary_factor": 1.0},
        "tie_word_embeddings": True,
    }
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    return Qwen3_5ForConditionalGeneration(config)


def _sections(half: int) -> list[int]:
    """How rotary frequencies are shared by time, height and width."""
    third = half // 3
    return [half - 2 * third, third, third]
