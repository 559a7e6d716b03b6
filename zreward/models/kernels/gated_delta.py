"""What gated-delta layers compute (Qwen3.5's linear attention), in plain float64, and the cases that try their kernels.

Shapes: B rows, T tokens, N key heads, M value heads (a multiple of N), K and V head sizes, C channels, W taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.models.kernels.compare import Case, Inputs

_CHUNK = 64  # tokens that the kernels take at a time
_RULE = ("query", "key", "value", "decay", "beta", "initial state")


@dataclass(frozen=True)
class DeltaSizes:
    """Of one layer. Heads beyond a few are left out: a kernel treats them alike."""

    key: int  # K
    value: int  # V
    groups: int = 1  # M / N
    taps: int = 4  # W
    activation: str = "silu"

    @property
    def heads(self) -> str:
        return f"heads of {self.key} and {self.value}, {self.groups} to a key head"

    @property
    def convolution(self) -> str:
        return f"{self.taps} taps, {self.activation}"


def delta_sizes(layer: Any) -> DeltaSizes:
    groups = min(layer.num_v_heads // layer.num_k_heads, 2)
    return DeltaSizes(layer.head_k_dim, layer.head_v_dim, groups, layer.conv_kernel_size, layer.activation)


def gated_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, T, N, K) twice, (B, T, M, V), (B, T, M) twice, (B, M, K, V) -> (B, T, M, V) and the state after the last token.

    S <- exp(g) S;  S <- S + beta k (v - S^T k)^T;  o = S^T q / sqrt(K), with q and k of length one. Token after token.
    """
    groups = value.shape[2] // key.shape[2]
    query, key = (_unit(x).repeat_interleave(groups, 2) for x in (query, key))
    query = query * query.shape[-1] ** -0.5
    outputs = []
    for t in range(key.shape[1]):
        q_BMK, k_BMK, v_BMV = query[:, t], key[:, t], value[:, t]
        state = state * decay[:, t].exp()[..., None, None]
        missing_BMV = beta[:, t, :, None] * (v_BMV - torch.einsum("bmkv,bmk->bmv", state, k_BMK))
        state = state + torch.einsum("bmk,bmv->bmkv", k_BMK, missing_BMV)
        outputs.append(torch.einsum("bmkv,bmk->bmv", state, q_BMK))
    return torch.stack(outputs, 1), state


def causal_convolution(hidden: Tensor, weight: Tensor, activation: str) -> Tensor:
    """(B, C, T) and (C, W) -> (B, C, T): every channel by itself, zeros before the first token."""
    taps, tokens = weight.shape[1], hidden.shape[-1]
    padded = F.pad(hidden, (taps - 1, 0))
    total = sum(
        (padded[..., tap : tap + tokens] * weight[:, tap, None] for tap in range(taps)), torch.zeros_like(hidden)
    )
    return _activated(total, activation)


def chunk_cases(kernel: Callable[..., Any], sizes: DeltaSizes) -> Iterator[Case]:
    """Lengths below, at and beyond a chunk; with a state before them, as a question has after its prefix, and without."""
    for tokens, given in ((5, True), (_CHUNK, True), (_CHUNK + 6, False), (_CHUNK + 6, True)):
        yield _rule_case(kernel, sizes, tokens, given, differentiated=True)


def recurrent_cases(kernel: Callable[..., Any], sizes: DeltaSizes) -> Iterator[Case]:
    """One token, in decoding alone: no gradient passes it."""
    yield _rule_case(kernel, sizes, 1, True, differentiated=False)


def convolution_cases(kernel: Callable[..., Any], sizes: DeltaSizes) -> Iterator[Case]:
    for tokens in (2, 70):
        generator = torch.Generator().manual_seed(tokens)
        yield Case(
            f"{tokens} tokens, {sizes.taps} taps",
            {
                "hidden": _random(generator, 2, 16, tokens),
                "weight": _random(generator, 16, sizes.taps),
            },
            lambda x: [kernel(x["hidden"], x["weight"], None, activation=sizes.activation)],
            lambda x: [causal_convolution(x["hidden"], x["weight"], sizes.activation)],
            ("output",),
            ("hidden", "weight"),
        )


def convolution_step_cases(kernel: Callable[..., Any], sizes: DeltaSizes) -> Iterator[Case]:
    """One token, in decoding alone. The state is written in place."""
    generator = torch.Generator().manual_seed(0)

    def step(x: Inputs) -> list[Tensor]:
        state = x["state"]
        return [kernel(x["hidden"], state, x["weight"], None, sizes.activation), state]

    def reference(x: Inputs) -> list[Tensor]:
        context = torch.cat([x["state"], x["hidden"]], -1)
        output = causal_convolution(context, x["weight"], sizes.activation)[..., -1:]
        return [output, context[..., 1:]]

    yield Case(
        f"1 token, {sizes.taps} taps",
        {
            "hidden": _random(generator, 2, 16, 1),
            "state": _random(generator, 2, 16, sizes.taps),
            "weight": _random(generator, 16, sizes.taps),
        },
        step,
        reference,
        ("output", "state"),
    )


def _rule_case(kernel: Callable[..., Any], sizes: DeltaSizes, tokens: int, given: bool, differentiated: bool) -> Case:
    generator = torch.Generator().manual_seed(tokens)
    heads = 2
    key_shape, value_heads = (2, tokens, heads, sizes.key), heads * sizes.groups
    inputs = {
        "query": _random(generator, *key_shape),
        "key": _random(generator, *key_shape),
        "value": _random(generator, 2, tokens, value_heads, sizes.value),
        # From almost no decay to all of it at once.
        "decay": -torch.rand(2, tokens, value_heads, generator=generator, dtype=torch.float64).pow(4) * 8,
        "beta": torch.rand(2, tokens, value_heads, generator=generator, dtype=torch.float64),
        "initial state": _random(generator, 2, value_heads, sizes.key, sizes.value),
    }
    if (
        not given
    ):  # a prefix: with padding on the left, as the layer hands it over. Its gradients are large: not in all cases
        inputs["initial state"].zero_()
        for name in ("query", "key", "value"):
            inputs[name][1, :2] = 0

    def call(x: Inputs) -> Any:
        query, key, value, decay, beta, state = (x[name] for name in _RULE)
        options = {"initial_state": state if given else None, "output_final_state": True}
        return kernel(query, key, value, g=decay, beta=beta, use_qk_l2norm_in_kernel=True, **options)

    return Case(
        f"{tokens} tokens, heads of {sizes.key} and {sizes.value}{', with a state before them' if given else ''}",
        inputs,
        call,
        lambda x: gated_delta_rule(*(x[name] for name in _RULE)),
        ("output", "final state"),
        (_RULE if given else _RULE[:-1]) if differentiated else (),
        float32=("decay", "initial state"),
    )


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _activated(x: Tensor, activation: str) -> Tensor:
    from transformers.activations import ACT2FN

    return ACT2FN[activation](x)


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)
