"""What attention layers compute, in plain float64, and the cases that try an attention implementation (sdpa, flash, flex, eager).

Shapes: B rows, N heads, M key heads, Q and T tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zreward.models.kernels.compare import Case, Inputs

_NAMES = ("query", "key", "value")


def attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scaling: float) -> Tensor:
    """(B, N, Q, D), (B, M, T, D) twice, what each token sees (B, Q, T) -> (B, Q, N, D)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.einsum("bnqd,bntd->bnqt", query, key) * scaling
    weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1)
    return torch.einsum("bnqt,bntd->bqnd", weights, value)


def head_size(layer: Any) -> int:
    return int(layer.head_dim)


def attention_cases(interface: Callable[..., Any], layer: Any) -> Iterator[Case]:
    """As the layer calls it. A decoder's: a whole text, padded rows, a question after its prefix. A vision tower's: an image."""
    if not layer.is_causal:
        yield _case("an image of 40 patches", interface, layer, torch.ones(1, 40), 40)
        return
    padded = torch.ones(2, 40)
    padded[1, :7] = 0
    yield _case("40 tokens", interface, layer, torch.ones(2, 40), 40)
    yield _case("40 tokens with padding", interface, layer, padded, 40)
    yield _case("5 tokens after 35", interface, layer, padded, 5)


def _case(name: str, interface: Callable[..., Any], layer: Any, real_BT: Tensor, queries: int) -> Case:
    """The last `queries` of T tokens ask; `real_BT` is one where there is a token, zero for padding."""
    generator = torch.Generator().manual_seed(queries)
    (rows, tokens), size, groups = real_BT.shape, head_size(layer), getattr(layer, "num_key_value_groups", 1)
    real = real_BT.bool()
    seen = real[:, None].expand(rows, queries, tokens)
    if layer.is_causal:
        seen = seen & torch.ones(tokens, tokens, dtype=torch.bool).tril()[-queries:]
    asked = real[:, -queries:]  # what comes out at padding is nobody's business
    scaling = getattr(layer, "scaling", None) or size**-0.5

    def call(x: Inputs) -> list[Tensor]:
        query = x["query"]
        mask = _mask(layer, query, real_BT) if layer.is_causal else None
        options = {} if layer.is_causal else {"is_causal": False}
        output = interface(layer, query, x["key"], x["value"], mask, dropout=0.0, scaling=scaling, **options)[0]
        return [output[asked.to(output.device)]]

    def reference(x: Inputs) -> list[Tensor]:
        # A row of padding sees nothing: let it see everything, it is left out.
        safe = seen | ~seen.any(-1, keepdim=True)
        return [attention(x["query"], x["key"], x["value"], safe, scaling)[asked]]

    shapes = {
        "query": (rows, 2 * groups, queries, size),
        "key": (rows, 2, tokens, size),
        "value": (rows, 2, tokens, size),
    }
    inputs = {key: torch.randn(shape, generator=generator, dtype=torch.float64) for key, shape in shapes.items()}
    return Case(f"{name}, heads of {size}", inputs, call, reference, ("output",), _NAMES)


def _mask(layer: Any, query: Tensor, real_BT: Tensor) -> Any:
    """The mask that the model would make for this implementation: bool, float, blocks, or none."""
    from transformers import DynamicCache
    from transformers.masking_utils import create_causal_mask

    rows, _, queries, size = query.shape
    before = real_BT.shape[1] - queries
    cache = None
    if before:
        cache = DynamicCache()
        state = query.new_zeros(rows, 1, before, 1)
        cache.update(state, state, 0)
    embedded = query.new_zeros(rows, queries, size)
    real = real_BT.to(query.device)
    return create_causal_mask(config=layer.config, inputs_embeds=embedded, attention_mask=real, past_key_values=cache)
