"""The world's base models: tiny Qwen3.5-architecture vision-language models with a small tokenizer.

`large` and `small` stand to each other like 27B to 9B. Their weights are shipped with the package and made again by
`zreward world pretrain`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zreward.common.errors import InputError
from zreward.models.pairwise import PairwiseQuestion
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, build_model, learn_tokenizer
from zreward.prompting import PromptForms
from zreward.rubric import Rubric
from zreward.world import explain, grammar
from zreward.world.checklist import CHECKLIST

WEIGHTS = Path(__file__).parent / "weights"
SIZES = ("large", "small")
WORLD_FORMS = PromptForms(
    system=" judge the image .",
    rubric="",
    prompt=" {prompt} .",
    direct=" {question} now",
    reasoning=" {question} step by step",
    reasoning_start="<think>",
    stop_marker="</think>",
    answer_prefix=" level ",
)
WORLD_COMPARISON = PairwiseQuestion("1", "9", " above", " {question} now", WORLD_FORMS.answer_prefix)
"""Its small vocabulary has neither yes nor no: the lowest and the highest label stand for the answers."""
CHECKLIST_FORMS = replace(WORLD_FORMS, prompt=WORLD_FORMS.prompt + CHECKLIST)
"""The shipped models read what to look at after the prompt: a place for every finding, shared by all dimensions."""
SPECS = {
    "large": ScratchSpec(
        hidden_size=128,
        intermediate_size=320,
        heads=4,
        layers=6,
        linear_layers=1,
        vision_hidden_size=64,
        vision_intermediate_size=192,
        vision_heads=4,
        vision_layers=3,
        patch_size=4,
        positions=64,
    ),
    "small": ScratchSpec(
        hidden_size=80,
        intermediate_size=192,
        heads=4,
        layers=6,
        linear_layers=1,
        vision_hidden_size=48,
        vision_intermediate_size=128,
        vision_heads=4,
        vision_layers=2,
        patch_size=4,
        positions=64,
    ),
}
"""One gated-delta layer first, attention above it: the reference delta rule is slow without its GPU kernels."""


def world_rubric() -> Rubric:
    """The rubric that the base models were pretrained to speak of: the four default dimensions in short words."""
    return Rubric.from_yaml(Path(__file__).parent / "rubric.yaml")


def make_tokenizer() -> Any:
    """Every word of the world is one token. The shipped weights were trained with this vocabulary: do not change it."""
    rubric = world_rubric()
    texts = [WORLD_FORMS.system, WORLD_FORMS.direct, WORLD_FORMS.reasoning, WORLD_FORMS.answer_prefix]
    texts += [dimension.question for dimension in rubric.dimensions]
    words = [w for text in texts for w in text.replace("{question}", "").split()]
    words += ["system", "user", "assistant", *grammar.vocabulary(), *explain.vocabulary()]
    return learn_tokenizer(words)


def make_base(size: str, family: str = "qwen3_5", seed: int = 0, layers: int | None = None) -> RewardModel:
    """An untrained world base model with the world's rubric, tokenizer and prompt forms; `layers` other than its own."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    spec = replace(SPECS[size], layers=layers or SPECS[size].layers)
    return as_judge(build_model(family, spec, tokenizer), tokenizer)


def as_judge(model: Any, tokenizer: Any, forms: PromptForms = WORLD_FORMS) -> RewardModel:
    """A model of the world with its rubric, under the given prompt forms."""
    return RewardModel(model, tokenizer, world_rubric(), forms, max_trace_tokens=40)


def load_base(size: str, **options: Any) -> RewardModel:
    """The shipped base model of that size."""
    return RewardModel.from_pretrained(WEIGHTS / size, **options)


def shipped(size: str) -> Path:
    """Where world:large and world:small lead to: the entry point of the prefix `world`."""
    if size not in SIZES:
        raise InputError(f"world:{size} is not a model of the built-in world; expected one of world:large, world:small")
    return WEIGHTS / size
