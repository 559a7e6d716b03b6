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
    earlier, heads, length = key.before.shape[:3]
    rows, width, own_length = len(query), query.shape[2], key.own.shape[2]
    by_heads = query.reshape(rows, heads, -1, query.shape[-1])  # queries that share keys, together
    to_before = _by_prefix(query, earlier, heads) @ key.before.mT
    to_own = _by_prefix(by_heads @ key.own.mT, earlier, heads)
    if mask is None:
        mask = torch.ones(width, length + own_length, dtype=torch.bool, device=query.device)
        mask = mask.tril(length + own_length - width)[None, None]
    scores = _masked(torch.cat([to_before, to_own], -1), mask.expand(rows, -1, -1, -1))
    at_least = scores if scores.dtype is torch.float64 else scores.float()
    probs = F.dropout(at_least.softmax(-1), dropout).to(query.dtype)
    from_before = _by_row(probs[..., :length] @ value.before, query.shape)
    from_own = _by_row(probs[..., length:], by_heads.shape) @ value.own
    return from_before + from_own.reshape(query.shape)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores (M, K, N / M * H / K * T, x), changed in place where rows' mask (N, 1 or H, T, x) hides keys."""
    earlier, heads = scores.shape[:2]
    rows, all_heads, width, keys = mask.shape
    by_row = scores.view(earlier, heads, rows // earlier, -1, width, keys)
    by_head = mask.unflatten(1, (1, 1) if all_heads == 1 else (heads, -1))
    mask = by_head.unflatten(0, (earlier, -1)).transpose(1, 2)  # (M, K, times, H / K, T, x), or ones for heads
    if mask.dtype == torch.bool:
        by_row.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    else:
        by_row += mask
    return scores


def _by_prefix(rows: Tensor, earlier: int, heads: int) -> Tensor:
    """(N, H, T, x) -> (M, K, N / M * H / K * T, x): all that attends to the keys of a prefix, together."""
    grouped = rows.unflatten(0, (earlier, -1)).unflatten(2, (heads, -1))  # (M, times, K, H / K, T, x)
    return grouped.transpose(1, 2).reshape(earlier, heads, -1, rows.shape[-1])


def _by_row(grouped: Tensor, shape: torch.Size) -> Tensor:
    """The way back: (M, K, N / M * H / K * T, x) -> (N, H, T, x), of the given shape but for x."""
    parts = grouped.unflatten(2, (shape[0] // len(grouped), -1))  # (M, K, times, H / K * T, x)
    return parts.transpose(1, 2).reshape(*shape[:3], grouped.shape[-1])


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
