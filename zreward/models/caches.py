"""What the layers keep of one pass over tokens, for the passes that go on from it.

A pass reads what the passes before it left and writes what it leaves itself into another place. So a layer may run twice in
one pass, which gradient checkpointing does, and gradients flow through everything: keys and values, convolution and recurrent
states. Shapes: M earlier rows, N rows of a pass, T tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from zreward.models.attention import Prefixed, is_long, takes_prefixed


@dataclass(frozen=True)
class Follow:
    """Which of M earlier rows each of N rows goes on from."""

    index: Tensor  # (N,)
    times: int | None = None  # every earlier row this often, next to each other; None: unequally often

    @classmethod
    def evenly(cls, earlier: int, times: int, device: torch.device) -> Follow:
        return cls(torch.arange(earlier, device=device).repeat_interleave(times), times)

    def select(self, states: Tensor) -> Tensor:
        """(M, ...) -> (N, ...)."""
        return states.index_select(0, self.index)

    def extend(self, before: Tensor, own: Tensor) -> Tensor:
        """(M, heads, L, size) and (N, heads, T, size) -> (N, heads, L + T, size), the earlier ones expanded, not copied first."""
        if self.times is None:
            return torch.cat([self.select(before), own], -2)
        each = before.unsqueeze(1).expand(-1, self.times, -1, -1, -1)
        return torch.cat([each, own.unflatten(0, (len(before), self.times))], -2).flatten(0, 1)


class AllLeft(Exception):
    """Raised in a pass whose hidden states nobody reads, when the last layer has left what later passes go on from."""


class PassCache(DynamicCache):
    """A model's cache for one pass over N right-padded rows.

    `padding` (N, T, 1) is true where a row has ended; None where all rows are equally long. `leaves`: later passes go on from
    this one. `ends`: the pass is given up by `AllLeft` once it has left everything.

    What carries a graph can be gone on from once: a checkpointed layer's recomputation holds its pass's cache, and a cache that
    held tensors of the layer's own graph would keep both for ever, since Python's collector cannot look into a graph.
    """

    def __init__(
        self,
        config: Any,
        before: PassCache | None = None,
        follow: Follow | None = None,
        mask_NT: Tensor | None = None,
        leaves: bool = True,
        ends: bool = False,
    ) -> None:
        super().__init__(config=config)
        self.ends = ends
        lengths, self.padding = None, None
        # Padding on the left comes before a state begins: nothing is there to be kept.
        if mask_NT is not None and not bool(mask_NT[:, -1].all()):
            lengths, self.padding = mask_NT.sum(1), ~mask_NT.bool()[..., None]
        earlier: list[Any] = list(before.layers) if before is not None else [None] * len(self.layers)
        apart = takes_prefixed(config)
        self.layers = [
            _States(old, follow, lengths) if isinstance(layer, LinearAttentionLayer) else _Keys(old, follow, apart)
            for layer, old in zip(self.layers, earlier, strict=True)
        ]
        if before is not None:
            before.forget_graphs()
        if not leaves:
            self.forget()

    def left_with_graph(self, number: int) -> list[Tensor]:
        """What a layer has left for later passes, where a gradient may come back through it."""
        layer = cast("_Keys | _States", self.layers[number])
        return [part for part in layer.own_left() if part.requires_grad]

    def forget_graphs(self) -> None:
        """What carries a graph belongs to the pass that went on from it."""
        for layer in cast("list[_Keys | _States]", self.layers):
            if layer.carries_graph:
                layer.forget()

    def forget(self) -> None:
        for layer in cast("list[_Keys | _States]", self.layers):
            layer.forget()

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **options: Any) -> Any:
        made = super().update(key_states, value_states, layer_idx, *args, **options)
        self._end_after(layer_idx)
        return made

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, *args: Any, **options: Any) -> Tensor:
        made = super().update_recurrent_state(recurrent_states, layer_idx, *args, **options)
        self._end_after(layer_idx)
        return made

    def _end_after(self, layer_idx: int) -> None:
        if self.ends and layer_idx == len(self.layers) - 1:
            raise AllLeft

    def growing(self, config: Any, follow: Follow) -> DynamicCache:
        """What the pass left, for every row of a generation: a cache that each of its passes adds to."""
        cache, apart = DynamicCache(config=config), takes_prefixed(config)
        for number, old in enumerate(self.layers):
            if isinstance(old, _States):
                old.fill(cast(LinearAttentionLayer, cache.layers[number]), follow)
            else:
                cache.layers[number] = _grown(cast(_Keys, old).left(), follow, apart)
        return cache


def shareable_layers(config: Any) -> bool:
    """Whether all layers of a model keep keys and values, or states of gated-delta rules."""
    kinds = (DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer)
    return all(type(layer) in kinds for layer in DynamicCache(config=config).layers)


def shortest_window(config: Any) -> int | None:
    """Positions that the narrowest attention layer sees; None where all see everything."""
    layers = DynamicCache(config=config).layers
    return min((one.sliding_window for one in layers if isinstance(one, DynamicSlidingWindowLayer)), default=None)


class _Keys(DynamicLayer):
    """Keys and values of the passes before, in front of this pass's own."""

    def __init__(self, before: _Keys | None, follow: Follow | None, apart: bool) -> None:
        super().__init__()
        self.before = before.left() if before is not None else None
        self.follow, self.apart = follow, apart
        self._made: Any = None
        self._leaves = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """(N, heads, T, size) each -> (N, heads, before + T, size), or both parts where they may stay apart."""
        made: tuple[Any, Any] = key_states, value_states
        if self.before is not None and self.follow is not None:
            keys, values = self.before
            made = Prefixed(keys, key_states, self.follow), Prefixed(values, value_states, self.follow)
            if not (self.apart and made[0].stays_apart):
                made = made[0].whole(), made[1].whole()
        if self._leaves and self._made is None:  # a checkpointed layer's second run leaves the first tensors in place
            self._made = made
        return made

    @property
    def carries_graph(self) -> bool:
        return any(part.requires_grad for part in self.own_left())

    def own_left(self) -> list[Tensor]:
        return [part.own if isinstance(part, Prefixed) else part for part in self._made or ()]

    def forget(self) -> None:
        """Leave nothing, in a second run either."""
        self._leaves, self._made = False, None

    def left(self) -> tuple[Tensor, Tensor]:
        """What the next pass goes on from: (N, heads, before + T, size) each."""
        keys, values = (part.whole() if isinstance(part, Prefixed) else part for part in self._made)
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens before this pass."""
        return 0 if self.before is None else self.before[0].shape[-2]


class _GrowingKeys(DynamicLayer):
    """Keys and values of a generation's own tokens, behind the prefix that its rows share."""

    def __init__(self, before: tuple[Tensor, Tensor], follow: Follow) -> None:
        super().__init__()
        self.before, self.follow = before, follow

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """(N, heads, T, size) each -> all of the rows' own tokens, behind the prefix."""
        own_keys, own_values = super().update(key_states, value_states)
        keys, values = self.before
        return Prefixed(keys, own_keys, self.follow), Prefixed(values, own_values, self.follow)

    def get_seq_length(self) -> int:
        """Tokens before the next pass."""
        return self.before[0].shape[-2] + super().get_seq_length()


def _grown(before: tuple[Tensor, Tensor], follow: Follow, apart: bool) -> DynamicLayer:
    if apart and is_long(before[0], follow):
        return _GrowingKeys(before, follow)
    layer = DynamicLayer()
    layer.update(*(follow.select(part) for part in before))
    return layer


class _States(LinearAttentionLayer):
    """Convolution and recurrent states before this pass, and after it."""

    left_conv: Tensor | None = None  # (N, C, kernel)
    left_recurrent: Tensor | None = None
    kernel: int

    def __init__(self, before: _States | None, follow: Follow | None, lengths_N: Tensor | None) -> None:
        super().__init__()
        self.lengths_N = lengths_N
        self._leaves = True
        if before is not None and follow is not None:
            conv, recurrent = before.left()
            self.conv_states[0] = follow.select(conv)
            self.recurrent_states[0] = follow.select(recurrent)
            self.has_previous_state[0] = True

    def left(self) -> tuple[Tensor, Tensor]:
        """What the next pass goes on from: convolution and recurrent states."""
        assert self.left_conv is not None and self.left_recurrent is not None, "the pass has run, and leaves something"
        return self.left_conv, self.left_recurrent

    @property
    def carries_graph(self) -> bool:
        return any(part.requires_grad for part in self.own_left())

    def own_left(self) -> list[Tensor]:
        return [part for part in (self.left_conv, self.left_recurrent) if part is not None]

    def forget(self) -> None:
        """Leave nothing, in a second run either."""
        self._leaves, self.left_conv, self.left_recurrent = False, None, None

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> Tensor:
        """The whole left context of a convolution over (N, C, T): earlier states, or zeros, before the new ones."""
        size = cast(int, conv_kernel_size)
        before = self.conv_states[0]
        missing = size if self.lengths_N is not None else max(0, size - conv_states.shape[-1])
        context = F.pad(conv_states, (missing, 0)) if before is None else torch.cat([before, conv_states], -1)
        # Also in a checkpointed layer's second run, which has to save as many tensors as the first.
        left = self._end_of_rows(context, size)
        if self._leaves and self.left_conv is None:
            self.kernel, self.left_conv = size, left
        return context

    def _end_of_rows(self, context_NCL: Tensor, size: int) -> Tensor:
        """The last `size` inputs of every row, padding left out."""
        if self.lengths_N is None:
            return context_NCL[..., -size:].clone()  # a view would keep the whole context alive
        places_NK = self.lengths_N[:, None] + torch.arange(size, device=context_NCL.device)
        return context_NCL.gather(-1, places_NK[:, None].expand(-1, context_NCL.shape[1], -1))

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        if self._leaves and self.left_recurrent is None:
            self.left_recurrent = recurrent_states
        return recurrent_states

    def fill(self, layer: LinearAttentionLayer, follow: Follow) -> None:
        """Give what is left to a layer of transformers' own cache."""
        conv, recurrent = (follow.select(part) for part in self.left())
        layer.lazy_initialization(conv_states=conv, recurrent_states=recurrent, conv_kernel_size=self.kernel)
        cast(Tensor, layer.conv_states[0]).copy_(conv)
        cast(Tensor, layer.recurrent_states[0]).copy_(recurrent)
        layer.has_previous_state[0] = True
