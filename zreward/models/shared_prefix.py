"""Several questions about one picture for little more than the price of one: image and prompt are encoded once.

    prefix   image, prompt and whatever else the questions of an item have in common     (N rows, left-padded)
    suffix   the rest of each question, run on copies of the prefix's state              (N * D rows, right-padded)

Attention layers hand over keys and values, linear-attention layers their convolution and recurrent states. The result is that
of separate passes, gradients to the pixels included. Shapes: N items, D questions of each, T tokens, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from zreward.models.backbone import Backbone, ModelInput, to_device
from zreward.models.layouts import takes_grids
from zreward.models.tokens import pad

SHORTEST = 2  # tokens of a suffix: a single one would be decoded by kernels that write into the states they read


@dataclass(frozen=True)
class Questions:
    """N items' prefixes and their N * D suffixes, question fastest."""

    prefix: ModelInput  # N rows
    suffix_ids: Tensor  # (N * D, T)
    suffix_mask: Tensor  # (N * D, T), ones where real

    @property
    def each(self) -> int:
        """D"""
        return len(self.suffix_ids) // len(self.prefix)

    def to(self, device: torch.device) -> Questions:
        return Questions(
            self.prefix.to(device), to_device(self.suffix_ids, device), to_device(self.suffix_mask, device)
        )


def can_share(backbone: Backbone) -> bool:
    """Qwen-type models whose layers are attention or linear attention; any other is asked D times (D times the cost)."""
    if not takes_grids(backbone.base.model):
        return False
    layers = DynamicCache(config=backbone.base.config).layers
    return all(type(layer) in (DynamicLayer, LinearAttentionLayer) for layer in layers)


def split_questions(inputs: ModelInput, each: int, image_token_id: int, pad_id: int) -> Questions | None:
    """Right-padded rows, `each` of an item next to each other -> its common prefix and the suffixes.

    None where sharing would save nothing: one question, or a question that comes before the image.
    """
    lengths = inputs.attention_mask.sum(1).tolist()
    rows = [ids[:length] for ids, length in zip(inputs.input_ids.tolist(), lengths, strict=True)]
    prefixes, suffixes = [], []
    for start in range(0, len(rows), each):
        group = rows[start : start + each]
        common = min(_common(group), min(map(len, group)) - SHORTEST)
        if each == 1 or image_token_id in group[0][common:]:
            return None
        prefixes.append(group[0][:common])
        suffixes += [row[common:] for row in group]
    prefix_ids, prefix_mask = pad(prefixes, pad_id, left=True)
    ids, mask = pad(suffixes, pad_id)
    prefix = replace(
        inputs, input_ids=prefix_ids, attention_mask=prefix_mask, row_images=inputs.row_images[::each], trace_mask=None
    )
    return Questions(prefix, ids, mask)


def ask(backbone: Backbone, questions: Questions) -> Tensor:
    """Label logits (N * D, S) at the last token of every suffix; differentiable to the pixels."""
    prefix, D = questions.prefix, questions.each
    cache = empty_cache(backbone)
    backbone.hidden_states(prefix, cache)
    mask = torch.cat([prefix.attention_mask.repeat_interleave(D, 0), questions.suffix_mask], 1)
    hidden = backbone.base.model(
        input_ids=questions.suffix_ids,
        attention_mask=mask,
        position_ids=_suffix_positions(backbone, questions),
        past_key_values=repeat_cache(backbone, cache, D),
        use_cache=True,
    ).last_hidden_state
    last = questions.suffix_mask.sum(1) - 1
    return backbone.label_logits(hidden[torch.arange(len(last), device=last.device), last])


def empty_cache(backbone: Backbone) -> DynamicCache:
    cache = DynamicCache(config=backbone.base.config)
    cache.layers = [_States() if isinstance(layer, LinearAttentionLayer) else layer for layer in cache.layers]
    return cache


def repeat_cache(backbone: Backbone, cache: DynamicCache, times: int) -> DynamicCache:
    """Every row `times` times, next to each other, for one more pass; the original stays as it is."""
    copy = empty_cache(backbone)
    for number, (old, new) in enumerate(zip(cache.layers, copy.layers, strict=True)):
        if isinstance(old, _States) and isinstance(new, _States):
            new.take(old, times)
        elif isinstance(old, DynamicLayer):
            copy.layers[number] = _Repeated(cast(Tensor, old.keys), cast(Tensor, old.values), times)
    return copy


class _Repeated(DynamicLayer):
    """Keys and values of N prefixes, repeated for N * D suffixes in the same copy that appends the suffixes' own."""

    def __init__(self, keys: Tensor, values: Tensor, times: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.times = keys, values, times

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """(N * D, heads, T, size) each -> (N * D, heads, prefix + T, size)."""
        return self._append(cast(Tensor, self.keys), key_states), self._append(cast(Tensor, self.values), value_states)

    def _append(self, before: Tensor, states: Tensor) -> Tensor:
        each = before.unsqueeze(1).expand(-1, self.times, -1, -1, -1)
        return torch.cat([each, states.unflatten(0, (len(before), self.times))], -2).flatten(0, 1)


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
        self.conv_states[state_idx] = conv_states[..., -size:]
        self.conv_kernel_size[state_idx] = size
        self.has_previous_state[state_idx] = self.is_conv_states_initialized[state_idx] = True
        return conv_states

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens the rows begin with alike."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))


def _suffix_positions(backbone: Backbone, questions: Questions) -> Tensor:
    """(3, N * D, T): text goes on after the prefix's highest position, the same in all three axes."""
    prefix = questions.prefix
    arguments = backbone.image_arguments(prefix.input_ids, prefix.grid[prefix.row_images.flatten()])
    positions, _ = backbone.base.model.get_rope_index(
        input_ids=prefix.input_ids, attention_mask=prefix.attention_mask, **arguments
    )
    highest = positions.masked_fill(prefix.attention_mask == 0, -1).amax((0, 2))  # (N,)
    steps = torch.arange(questions.suffix_ids.shape[1], device=highest.device)
    following = highest.repeat_interleave(questions.each)[:, None] + 1 + steps
    return following.expand(3, -1, -1)
