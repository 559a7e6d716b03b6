"""Padding that a gated-delta layer's state does not see.

Such a layer carries a state from token to token, and a padded place would change it: the state decays, and something is
written. Two numbers a token decide about both, the outputs of `in_proj_a` (decay) and `in_proj_b` (how much is written).
Far below zero they mean: keep everything, write nothing. So rows of unequal lengths can be padded on the right, and what comes
next goes on from the state after each row's last token.
"""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn

_NOTHING = -1e4  # the sigmoid and the softplus of it are 0 in every precision, half included
_running = threading.local()  # the padding of the layer that this thread is in


def watch_padding(network: nn.Module) -> None:
    """Hooks on every gated-delta layer of a network; they act only in passes with a `PassCache` that has padding."""
    for layer in gated_layers(network):
        if _begin in layer._forward_pre_hooks.values():
            continue  # another reward model is around the same network
        layer.register_forward_pre_hook(_begin, with_kwargs=True)
        layer.register_forward_hook(_end, always_call=True)
        for name in ("in_proj_a", "in_proj_b"):
            getattr(layer, name).register_forward_hook(_mask)


def gated_layers(network: nn.Module) -> list[nn.Module]:
    return [each for each in network.modules() if hasattr(each, "in_proj_a") and hasattr(each, "in_proj_b")]


def _begin(layer: nn.Module, args: tuple, options: dict[str, Any]) -> None:
    _running.padding = getattr(options.get("cache_params"), "padding", None)


def _end(layer: nn.Module, args: tuple, output: Any) -> None:
    _running.padding = None


def _mask(projection: nn.Module, args: tuple, output: Tensor) -> Tensor:
    padding = getattr(_running, "padding", None)
    return output if padding is None else output.masked_fill(padding, _NOTHING)
