"""What passes that share ask of engines that split a model's weights over processes, and gather a layer's while it runs.

All processes gather together, so all have to run the same passes. FSDP gathers a layer's weights again when a gradient reaches
the layer's output; the gradients of what a layer leaves for later passes reach it by another way, at the last layer only by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils._pytree import tree_leaves

from zreward.models.caches import PassCache

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone


def in_all(backbone: Backbone, yes: bool) -> bool:
    """Whether all processes that run the model together say yes; without such processes, what this one says."""
    return alike(backbone, int(yes)) and yes


def alike(backbone: Backbone, number: int) -> bool:
    """Whether all processes that run the model together have the same number."""
    if not backbone.is_sharded:
        return True
    ends = torch.tensor([number, -number], device=backbone.label_ids.device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends[0] == -ends[1])


def most(backbone: Backbone, number: int) -> int:
    """The largest number of all processes that run the model together."""
    if not backbone.is_sharded:
        return number
    largest = torch.tensor(number, device=backbone.label_ids.device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def prepare_layers(network: Any) -> None:
    """For several forward passes before one backward pass, whose gradients come through a `PassCache`: once, under an engine."""
    if hasattr(network, _PREPARED):
        return
    setattr(network, _PREPARED, True)
    language = getattr(network.model, "language_model", network.model)
    for number, layer in enumerate(language.layers):
        if _is_fsdp(layer):
            # FSDP's own hook, which stands between the two, takes what was left for a part of the layer's output.
            layer.register_forward_hook(_add_left(number), with_kwargs=True, prepend=True)
            layer.register_forward_hook(_take_away)
    for module in network.modules():
        if hasattr(module, "ds_id"):  # a module of ZeRO-3
            module.register_forward_hook(_count_for_this_pass)


def _is_fsdp(layer: nn.Module) -> bool:
    return isinstance(layer, FSDPModule)


_PREPARED = "_zreward_prepared_for_several_passes"


class _WithLeft(NamedTuple):
    output: Any
    left: list[Tensor]


def _add_left(number: int) -> Any:
    def add(layer: nn.Module, args: tuple, options: dict[str, Any], output: Any) -> Any:
        cache = options.get("past_key_values")
        return _WithLeft(output, cache.left_with_graph(number)) if isinstance(cache, PassCache) else output

    return add


def _take_away(layer: nn.Module, args: tuple, output: Any) -> Any:
    return output.output if isinstance(output, _WithLeft) else output


def _count_for_this_pass(module: Any, args: tuple, output: Any) -> None:
    """ZeRO-3 releases a module's weights when it has the gradients of as many inputs as its *last* forward pass had.

    It begins to count at the last pass's, so the weights of earlier passes would stay until the whole backward pass is over.
    """
    inputs = module.ds_grads_remaining

    def begin(gradient: Tensor) -> None:
        module.ds_grads_remaining = inputs

    for part in tree_leaves(output):
        if isinstance(part, Tensor) and part.requires_grad:
            part.register_hook(begin)
