"""A deeper language model that computes what the shallower one did: the new layers begin as identities."""

from __future__ import annotations

import copy
from typing import Any

import torch


def deepen(network: Any, layers: int) -> Any:
    """A Qwen3.5-architecture network with `layers` language layers in all, the new ones just below the last.

    They are attention layers whose outputs start at zero, so nothing that was learned is disturbed. Their other weights
    come from torch's global random state.
    """
    config = copy.deepcopy(network.config)
    text = config.text_config
    old = text.num_hidden_layers
    text.num_hidden_layers = layers
    text.layer_types = [*text.layer_types[:-1], *["full_attention"] * (layers - old), text.layer_types[-1]]
    deeper = type(network)(config)
    last, new_last = (f"language_model.layers.{n - 1}." for n in (old, layers))
    weights = {name.replace(last, new_last): value for name, value in network.state_dict().items()}
    new = deeper.load_state_dict(weights, strict=False)
    assert not new.unexpected_keys, new.unexpected_keys
    with torch.no_grad():
        for layer in deeper.model.language_model.layers[old - 1 : layers - 1]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return deeper
