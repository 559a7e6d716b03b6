"""What the layers keep of an encoded prefix, repeated for the questions that follow it.

Attention layers hand over keys and values, linear-attention layers their convolution and recurrent states. A gradient flows
through all of it.

Shapes: N prefixes, D suffixes of each, M = N * D rows, A attention heads, T tokens, C numbers of a head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from zreward.models.backbone import Backbone


def empty_cache(backbone: Backbone) -> DynamicCache:
    cache = DynamicCache(config=backbone.base.config)
    cache.layers = [_States() if isinstance(layer, LinearAttentionLayer) else layer for layer in cache.layers]
    return cache


def repeat_cache(backbone: Backbone, cache: DynamicCache, times: int, growing: bool = False) -> DynamicCache:
    """Every row `times` times, next to each other; the original stays as it is.

    For one more pass, whose keys and values are not kept; `growing` keeps them, for a generation's passes.
    """
    copy = empty_cache(backbone)
    for number, (old, new) in enumerate(zip(cache.layers, copy.layers, strict=True)):
        if isinstance(old, _States) and isinstance(new, _States):
            new.take(old, times)
        elif isinstance(old, DynamicLayer):
            keys, values = cast(Tensor, old.keys), cast(Tensor, old.values)
            copy.layers[number] = _grown(keys, values, times) if growing else _Repeated(keys, values, times)
    return copy


def _grown(keys: Tensor, values: Tensor, times: int) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(keys.repeat_interleave(times, 0), values.repeat_interleave(times, 0))
    return layer


class _Repeated(DynamicLayer):
    """Keys and values of N prefixes, repeated for N * D suffixes in the same copy that appends the suffixes' own."""

    def __init__(self, keys: Tensor, values: Tensor, times: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.times = keys, values, times

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """(M, A, T, C) each -> (M, A, prefix + T, C)."""
        return self._append(cast(Tensor, self.keys), key_states), self._append(cast(Tensor, self.values), value_states)

    def _append(self, before_NATC: Tensor, states_MATC: Tensor) -> Tensor:
        each_NDATC = before_NATC.unsqueeze(1).expand(-1, self.times, -1, -1, -1)
        states_NDATC = states_MATC.unflatten(0, (len(before_NATC), self.times))
        return torch.cat([each_NDATC, states_NDATC], -2).flatten(0, 1)


class _States(LinearAttentionLayer):
    """States that are replaced where transformers' own are written in place, which a gradient does not survive."""

    def take(self, other: _States, times: int) -> None:
        for index in other.conv_states:
            self.conv_states[index] = cast(Tensor, other.conv_states[index]).repeat_interleave(times, 0)
            self.recurrent_states[index] = cast(Tensor, other.recurrent_states[index]).repeat_interleave(times, 0)
            self.is_conv_states_initialized[index] = self.is_recurrent_states_initialized[index] = True
            self.has_previous_state[index] = True
            self.conv_kernel_size[index] = other.conv_kernel_size[index]

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> Tensor:
        """The whole left context of a convolution over (N, C, T): earlier states, or zeros, before the new ones."""
        size = cast(int, conv_kernel_size or self.conv_kernel_size[state_idx])
        before = self.conv_states[state_idx]
        if before is not None:
            conv_states = torch.cat([before, conv_states], -1)
        elif conv_states.shape[-1] < size:
            conv_states = torch.nn.functional.pad(conv_states, (size - conv_states.shape[-1], 0))
        self.conv_states[state_idx] = conv_states[..., -size:].clone()  # a view would keep the whole context alive
        self.conv_kernel_size[state_idx] = size
        self.has_previous_state[state_idx] = self.is_conv_states_initialized[state_idx] = True
        return conv_states

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states
