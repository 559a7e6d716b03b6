"""Attention of many short rows to one long prefix, without a copy of the prefix for each of them.

transformers' own functions want keys and values of every row in one piece. Here those of the earlier rows stay as they are:
scores against them and against the row's own keys are computed apart, and one softmax goes over both. Shapes: M earlier rows,
N rows, H heads (K of keys and values), T queries, L earlier keys, S keys of a row's own, size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from zreward.models.caches import Follow

NAME = "zreward_sdpa"
LONG = 256  # tokens of a prefix; a shorter one is copied for less than two products and a softmax over both cost


@dataclass(frozen=True)
class Prefixed:
    """Keys or values of N rows: those of earlier rows, and their own."""

    before: Tensor  # (M, K, L, size)
    own: Tensor  # (N, K, S, size)
    follow: Follow

    def whole(self) -> Tensor:
        """(N, K, L + S, size)."""
        return self.follow.extend(self.before, self.own)

    @property
    def stays_apart(self) -> bool:
        """Whether the prefix is long, and the rows' scores against it take no more room than copies of it."""
        return is_long(self.before, self.follow) and self.own.shape[2] <= self.own.shape[3]


def is_long(before: Tensor, follow: Follow) -> bool:
    """Whether keys (M, K, L, size) are worth leaving where they are for the rows that follow them."""
    return follow.times is not None and before.shape[2] >= LONG


def use_prefixed_attention(network: Any) -> None:
    """Let a model's language part take `Prefixed` keys and values, where it would use torch's own attention."""
    config = network.config.get_text_config()
    if config._attn_implementation == "sdpa":
        config._attn_implementation = NAME


def takes_prefixed(config: Any) -> bool:
    return config.get_text_config()._attn_implementation == NAME


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor | Prefixed,
    value: Tensor | Prefixed,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: (N, H, T, size) queries -> (N, T, H, size)."""
    if isinstance(key, Prefixed) and isinstance(value, Prefixed):
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        return _attend_apart(query * scale, key, value, attention_mask, dropout).transpose(1, 2), None
    assert isinstance(key, Tensor) and isinstance(value, Tensor), "both are in one piece"
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
    )


def _attend_apart(query: Tensor, key: Prefixed, value: Prefixed, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled queries (N, H, T, size), of the last T of a row's own tokens -> (N, H, T, size)."""
    heads, width = key.own.shape[1], query.shape[2]
    earlier, length, own_length = key.before.shape[0], key.before.shape[2], key.own.shape[2]
    to_before = _by_prefix(query, earlier, heads) @ key.before.transpose(-1, -2)
    to_own = _by_heads(query, heads) @ key.own.transpose(-1, -2)
    shape = query.shape[:3]
    scores = torch.cat([_by_row(to_before, (*shape, length)), to_own.reshape(*shape, own_length)], -1)
    if mask is None:
        mask = torch.ones(width, length + own_length, dtype=torch.bool, device=query.device)
        mask = mask.tril(length + own_length - width)
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
    at_least = scores if scores.dtype is torch.float64 else scores.float()
    probs = F.dropout(at_least.softmax(-1), dropout, dropout > 0).to(query.dtype)
    from_before = _by_prefix(probs[..., :length], earlier, heads) @ value.before
    from_own = _by_heads(probs[..., length:], heads) @ value.own
    return _by_row(from_before, tuple(query.shape)) + from_own.reshape(query.shape)


def _by_heads(rows: Tensor, heads: int) -> Tensor:
    """(N, H, T, x) -> (N, K, H / K * T, x): queries that share keys, together."""
    return rows.reshape(len(rows), heads, -1, rows.shape[-1])


def _by_prefix(rows: Tensor, earlier: int, heads: int) -> Tensor:
    """(N, H, T, x) -> (M, K, N / M * H / K * T, x): all that attends to the keys of a prefix, together."""
    grouped = rows.unflatten(0, (earlier, -1)).unflatten(2, (heads, -1))  # (M, times, K, H / K, T, x)
    return grouped.transpose(1, 2).reshape(earlier, heads, -1, rows.shape[-1])


def _by_row(grouped: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The way back: (M, K, N / M * H / K * T, x) -> (N, H, T, x), the given shape."""
    earlier, heads = grouped.shape[:2]
    rows, all_heads, width, size = shape
    parts = grouped.view(earlier, heads, rows // earlier, all_heads // heads, width, size)
    return parts.transpose(1, 2).reshape(rows, all_heads, width, size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
