"""How a trainer's weights get to an engine: an adapter as it is, or all weights, merged, through a folder.

vLLM applies LoRA to the attention and feed-forward layers of a language model. Elsewhere (linear attention, vision towers) it
loads an adapter and changes nothing, so weights are merged there and all of them written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zreward.models.preprocessor import save_preprocessor
from zreward.models.shards import gathered, whole

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

_APPLIED = re.compile(r"(^|\.)language_model\.(.*\.)?layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)$")


def adapter_rank(model: RewardModel) -> int | None:
    """The rank of a model's adapter where vLLM applies all of it; None where there is none, or weights have to be merged."""
    if not hasattr(model.backbone.model, "peft_config"):
        return None
    if not all(_APPLIED.search(name) for name, _ in _adapted(model)):
        return None
    return max(config.r for config in model.backbone.model.peft_config.values())


def write_adapter(model: RewardModel, folder: Path, leads: bool = True) -> None:
    """Where weights are split, all processes have to call; the one that `leads` writes."""
    network = model.backbone.model
    adapter = {name: value for name, value in network.state_dict(keep_vars=True).items() if ".lora_" in name}
    adapter = whole(adapter, leads)
    if leads:
        network.save_pretrained(folder, state_dict=adapter)


def write_weights(model: RewardModel, folder: Path, leads: bool = True, merge: bool = True) -> None:
    """A plain Hugging Face folder with everything that vLLM reads: an adapter is merged into the copy, or left out of it.

    Where weights are split, all processes have to call; the one that `leads` writes.
    """
    weights = weights_of(model, merge, leads)
    if not leads:
        return
    model.backbone.base.save_pretrained(folder, state_dict=weights)
    model.tokenizer.save_pretrained(folder)
    save_preprocessor(model, folder)


@torch.no_grad()
def weights_of(model: RewardModel, merge: bool, keep: bool = True) -> dict[str, Tensor]:
    """The weights by the Hugging Face model's names, in the precision that passes compute in.

    Merging adds to copies: weights that an adapter is added to and taken from again are not the same bits. Where weights are
    split, all processes have to call; those that do not `keep` get nothing.
    """
    named = model.backbone.base.state_dict(keep_vars=True).items()
    own = {name.replace(".base_layer.", "."): value for name, value in named if ".lora_" not in name}
    kept = whole(own, keep)
    for name, layer in _adapted(model) if merge else []:
        active = [adapter for adapter in layer.active_adapters if adapter in layer.lora_A]
        with gathered([value for part, value in layer.named_parameters() if part.startswith("lora_")]):
            added = whole({adapter: layer.get_delta_weight(adapter) for adapter in active}, keep)
        if keep:
            kept[f"{name}.weight"] = kept[f"{name}.weight"] + sum(added.values())
    dtype = model.computed_in
    return {name: value.to(dtype) if dtype and value.is_floating_point() else value for name, value in kept.items()}


def _adapted(model: RewardModel) -> list[tuple[str, Any]]:
    """LoRA layers by name."""
    if not hasattr(model.backbone.model, "peft_config"):
        return []
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.backbone.base.named_modules() if isinstance(module, LoraLayer)]
