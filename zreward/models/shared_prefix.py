"""Several questions about one picture: image and prompt are encoded once, each question adds a short suffix.

    prefix   image, prompt and everything else the questions of an item have in common     (N rows, left-padded)
    suffix   the rest of each question, run on copies of the prefix's state              (N * D rows, right-padded)

The result is that of separate passes, gradients to the pixels included. Shapes: N items, D questions of each, T tokens, S bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionLayer

from zreward.common.errors import InputError
from zreward.models.backbone import Backbone, ModelInput, to_device
from zreward.models.caches import empty_cache, repeat_cache
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
    """Qwen-type models whose layers are attention or linear attention; any other model needs one forward pass per dimension."""
    if not takes_grids(backbone.base.model):
        return False
    layers = DynamicCache(config=backbone.base.config).layers
    return all(type(layer) in (DynamicLayer, LinearAttentionLayer) for layer in layers)


def split_questions(inputs: ModelInput, each: int, image_token_id: int, pad_id: int) -> Questions | None:
    """Split right-padded rows, `each` of an item next to each other, into its common prefix and the suffixes.

    Returns:
        None where nothing can be shared: a question that comes before the image.
    """
    lengths = inputs.attention_mask.sum(1).tolist()
    rows = [ids[:length] for ids, length in zip(inputs.input_ids.tolist(), lengths, strict=True)]
    prefixes, suffixes = [], []
    for start in range(0, len(rows), each):
        first, *_ = group = rows[start : start + each]
        common = min(_common(group), min(map(len, group)) - SHORTEST)
        if image_token_id in first[common:]:
            return None
        prefixes.append(first[:common])
        suffixes += [row[common:] for row in group]
    prefix_ids, prefix_mask = pad(prefixes, pad_id, left=True)
    ids, mask = pad(suffixes, pad_id)
    prefix = replace(
        inputs, input_ids=prefix_ids, attention_mask=prefix_mask, row_images=inputs.row_images[::each], trace_mask=None
    )
    return Questions(prefix, ids, mask)


@dataclass(frozen=True)
class PrefixState:
    """What a model keeps of N prefixes, and the position at which text continues."""

    cache: DynamicCache
    mask: Tensor  # (N, T), ones where real
    position: Tensor  # (N,): of the first token that follows, the same in all three axes


def encode(backbone: Backbone, prefix: ModelInput) -> PrefixState:
    """One pass over N prefixes. InputError where the model keeps nothing of it."""
    cache = empty_cache(backbone)
    backbone.hidden_states(prefix, cache)
    if cache.get_seq_length() == 0:
        raise InputError(
            "the model kept no state of image and prompt: gradient checkpointing in train mode forbids it; call eval() first"
        )
    arguments = backbone.image_arguments(prefix.input_ids, prefix.grid[prefix.row_images.flatten()])
    positions_3NT, _ = backbone.base.model.get_rope_index(
        input_ids=prefix.input_ids, attention_mask=prefix.attention_mask, **arguments
    )
    return PrefixState(
        cache, prefix.attention_mask, positions_3NT.amax((0, 2)) + 1
    )  # padding's positions are never the highest


def score_questions(backbone: Backbone, questions: Questions) -> Tensor:
    """Label logits (N * D, S) at the last token of every suffix; differentiable to the pixels."""
    return score_suffixes(backbone, encode(backbone, questions.prefix), questions.suffix_ids, questions.suffix_mask)


def score_suffixes(backbone: Backbone, state: PrefixState, suffix_ids: Tensor, suffix_mask: Tensor) -> Tensor:
    """Label logits (N * D, S) after encoded prefixes: right-padded suffixes (N * D, T), those of an item next to each other."""
    D = len(suffix_ids) // len(state.mask)
    steps = torch.arange(suffix_ids.shape[1], device=suffix_ids.device)
    hidden_NTH = backbone.base.model(
        input_ids=suffix_ids,
        attention_mask=torch.cat([state.mask.repeat_interleave(D, 0), suffix_mask], 1),
        position_ids=(state.position.repeat_interleave(D)[:, None] + steps).expand(3, -1, -1),
        past_key_values=repeat_cache(backbone, state.cache, D),
    ).last_hidden_state
    last = suffix_mask.sum(1) - 1
    return backbone.label_logits(hidden_NTH[torch.arange(len(last), device=last.device), last])


def generation_inputs(backbone: Backbone, state: PrefixState, suffix_ids: Tensor) -> dict[str, Any]:
    """What `generate`, called next, takes to go on after encoded prefixes and suffixes (N * D, T) without padding.

    Where positions go on is left with the model: `generate` has no argument for it.
    """
    D = len(suffix_ids) // len(state.mask)
    mask = state.mask.repeat_interleave(D, 0)
    # `generate` counts tokens; an image takes fewer positions than tokens.
    backbone.base.model.rope_deltas = (state.position - state.mask.sum(1)).repeat_interleave(D)[:, None]
    return {
        "input_ids": suffix_ids,
        "attention_mask": torch.cat([mask, torch.ones_like(suffix_ids)], 1),
        "past_key_values": repeat_cache(backbone, state.cache, D, growing=True),
    }


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens the rows begin with alike."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))
