"""The rubric is read once: what stands before the first image depends on the weights and the rubric alone, and is kept.

What is kept is never stale. Its key holds sums over the bits of every weight that it passed: they notice whatever changed
one, be it an optimizer, a loaded state, a merged adapter or a write through `.data`, which torch's version counters miss. The
sums read the language model's weights twice a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zreward.models.passes import PrefixState, run_prefix
from zreward.models.sharing import Part

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # by size in bytes
_MIXER = -0x61C8864680B583EB  # an odd number with as many ones as zeros, in a random order


@dataclass(frozen=True)
class _Kept:
    key: tuple[Any, ...]
    encoded: PrefixState


class Opening:
    """Encodes what all rows begin with, and keeps the last encoding."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Opening:
        return Opening()

    def may_be_kept(self, backbone: Backbone) -> bool:
        """Not in training, not where a gradient to the weights has to pass through it, and not with sharded weights."""
        if backbone.training or backbone.is_sharded:
            return False
        return not (torch.is_grad_enabled() and any(weight.requires_grad for weight in _read_by_text(backbone)))

    def encode(self, backbone: Backbone, ids_H: Tensor) -> PrefixState:
        """One row of H tokens without images."""
        if not self.may_be_kept(backbone):
            return _encode(backbone, ids_H)
        key, kept = _key(backbone, ids_H), self._kept
        if kept is None or kept.key != key:
            # Not in a caller's inference mode: no gradient may pass tensors that are made there.
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept = _Kept(key, _encode(backbone, ids_H))
        return kept.encoded


def _encode(backbone: Backbone, ids_H: Tensor) -> PrefixState:
    row = ids_H[None]
    return run_prefix(backbone, Part(row, torch.ones_like(row)))


def _key(backbone: Backbone, ids_H: Tensor) -> tuple[Any, ...]:
    """All that the encoding of a text depends on."""
    weights = list(_read_by_text(backbone))
    device = ids_H.device
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return (
        tuple(ids_H.tolist()),
        tuple((weight.dtype, weight.device) for weight in weights),
        tuple(_sums_of_bits(weights, device).tolist()),
        tuple(_adapters(backbone)),
        backbone.base.config.get_text_config()._attn_implementation,
        autocast,
    )


def _read_by_text(backbone: Backbone) -> Iterator[Tensor]:
    """The weights and tables that a text without images passes."""
    core = backbone.base.model
    language = getattr(core, "language_model", core)
    return chain(language.parameters(), language.buffers())


def _sums_of_bits(weights: Iterable[Tensor], device: torch.device) -> Tensor:
    """(2,): of the weights' bits as whole numbers, wrapping around: of all rows and of all columns, each counted by its place.

    Any single change changes both; rows, columns or two numbers that change places change one of them.
    """
    words = [_words(weight) for weight in weights]
    return torch.stack([_by_place(torch.cat([bits.sum(axis).to(device) for bits in words])) for axis in (1, 0)])


def _words(weight: Tensor) -> Tensor:
    """A tensor's bits as rows of whole numbers, without a copy."""
    bits = weight.flatten(1) if weight.ndim > 1 else weight.view(1, -1)
    size = bits.element_size()
    if size == 8:
        return bits.view(torch.int32)  # as whole words, an even number of changed signs would cancel
    if bits.is_contiguous() and bits.shape[1] * size % 8 == 0 and bits.storage_offset() * size % 8 == 0:
        return bits.view(torch.int64)  # the fastest: no conversion
    return bits.view(_INTEGERS[size])


def _by_place(sums: Tensor) -> Tensor:
    factors = 2 * torch.arange(len(sums), device=sums.device) + 1  # odd: no change is lost
    return ((sums ^ (sums >> 32)) * (factors * _MIXER)).sum()


def _adapters(backbone: Backbone) -> Iterator[Any]:
    """Which adapters act, and how strongly: their weights alone do not say."""
    if not hasattr(backbone.model, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in backbone.base.modules():
        if isinstance(layer, BaseTunerLayer):
            scaling = getattr(layer, "scaling", {})
            yield (
                tuple(layer.active_adapters),
                tuple(layer.merged_adapters),
                layer.disable_adapters,
                tuple(scaling.items()),
            )
