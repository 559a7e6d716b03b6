"""Scores with a kept opening, and without one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny import noise_pictures
from zreward.models.opening import Opening
from zreward.models.reward_model import RewardModel

PROMPT = "a red circle above a blue square"
PICTURE = noise_pictures(1)[0]


def scores(judge: RewardModel) -> Tensor:
    return judge.score([PICTURE], PROMPT).probs


def never_kept(judge: RewardModel) -> Tensor:
    """Scores where no encoding was kept; those of whole rows are the same but for rounding."""
    shared = judge.backbone.shared_prefix
    kept, shared.opening = shared.opening, Opening()
    try:
        found, shared.right = scores(judge), False
        assert torch.allclose(scores(judge), found, atol=0.3 if judge.backbone.base.dtype == torch.bfloat16 else 1e-5)
        return found
    finally:
        shared.opening, shared.right = kept, True


def opening_token(judge: RewardModel) -> int:
    return judge.tokenizer(" judge", add_special_tokens=False)["input_ids"][0]


def language(judge: RewardModel) -> nn.Module:
    return judge.backbone.base.model.language_model


def embeddings(judge: RewardModel) -> nn.Parameter:
    return language(judge).embed_tokens.weight


def attention(judge: RewardModel) -> nn.Parameter:
    return language(judge).layers[1].self_attn.k_proj.weight


def fresh(judge: RewardModel) -> Tensor:
    """Scores of a copy, which keeps nothing."""
    return scores(copy.deepcopy(judge))


def adapted(judge: RewardModel) -> RewardModel:
    """The same network with two adapters, the first one active."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "in_proj_qkv"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = get_peft_model(judge.backbone.model, config)
        network.add_adapter("other", config)
    model = RewardModel(network, judge.tokenizer, judge.rubric, judge.forms).eval()
    model.backbone.shared_prefix.right = True
    return model


def tuners(judge: RewardModel) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [layer for layer in judge.backbone.base.modules() if isinstance(layer, BaseTunerLayer)]
