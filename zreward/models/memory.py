"""What a gradient to the pixels keeps in memory, and how much of it is recomputed in the backward pass instead.

keep          all activations: the fastest
recompute     the inputs of every block of the vision tower and the decoder; the rest is computed a second time
one_by_one    as recompute, and one picture after another: the memory of a single one
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from zreward.common.errors import InputError, shown
from zreward.distribution import ScoreDistribution
from zreward.models.calibration import pair_scale
from zreward.models.devices import free_bytes
from zreward.models.modes import in_mode

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone
    from zreward.models.reward_model import RewardModel

MEMORY = ("keep", "recompute", "one_by_one")
_KEPT_PER_TOKEN = 30  # numbers, in widths of a layer, that a block keeps of a token
_KEPT_RECOMPUTED = 3  # of them its input, keys and values
_SHARE = 0.5  # of the free memory, that a reward may take beside a generator
_SWITCH = ("gradient_checkpointing", "_gradient_checkpointing_func", "_can_checkpoint_with_cache")
_lock = threading.Lock()
_inside: WeakKeyDictionary[Any, tuple[int, list[tuple[Any, dict[str, Any]]] | None]] = WeakKeyDictionary()
"""Network -> how many calls recompute its blocks right now, and what the blocks' settings were before them."""


def check_memory(memory: str | None) -> None:
    """InputError unless it is None or one of `MEMORY`."""
    if memory is not None and memory not in MEMORY:
        raise InputError(
            f"memory is {shown(memory)}; expected one of {list(MEMORY)}, or nothing to choose by what is free"
        )


def differentiably(
    model: RewardModel,
    shown: Sequence[tuple[Tensor, ...]],
    prompts: Sequence[str],
    names: tuple[str, ...],
    memory: str | None,
) -> ScoreDistribution:
    """`RewardModel.distribution_of` with a gradient to the images, keeping what `memory` says."""
    if memory is None:
        tokens = sum(model.length(mine, prompt, names[0]) for mine, prompt in zip(shown, prompts, strict=True))
        memory = choose_memory(model.backbone, tokens, len(shown))
    if memory == "keep":
        return model.distribution_of(shown, prompts, names)
    if memory == "recompute":
        with recomputed_blocks(model.backbone):
            return model.distribution_of(shown, prompts, names)

    def probs(n: int, *mine: Tensor) -> Tensor:
        with recomputed_blocks(model.backbone):  # entered again in the backward pass
            return model.distribution_of([mine], prompts[n : n + 1], names).probs

    parts = [checkpoint(probs, n, *mine, use_reentrant=False) for n, mine in enumerate(shown)]
    bins, scale = model.rubric.scale.bins.to(model.device), pair_scale(model.calibrations, "direct", names)
    return ScoreDistribution(torch.cat(parts), bins, names, scale)


def choose_memory(backbone: Backbone, tokens: int, pictures: int) -> str:
    """The fastest of `MEMORY` whose activations fit into half of the free memory.

    Args:
        backbone: the model that is differentiated through.
        tokens: of all pictures, prompts and questions together.
        pictures: how many there are.
    """
    free = _SHARE * free_bytes(backbone.label_ids.device)
    kept = _bytes_per_token(backbone) * tokens
    if kept <= free:
        return "keep"
    recomputed = kept * _KEPT_RECOMPUTED / _KEPT_PER_TOKEN
    return "recompute" if recomputed <= free or pictures == 1 else "one_by_one"


def _bytes_per_token(backbone: Backbone) -> float:
    """Of the decoder's blocks, and of the vision tower's, which sees a token as several patches."""
    config: Any = backbone.base.config
    text: Any = config.get_text_config()
    vision: Any = config.vision_config
    patches = getattr(vision, "spatial_merge_size", 1) ** 2
    depth = getattr(vision, "depth", 0) or getattr(vision, "num_hidden_layers", 0)
    numbers = text.num_hidden_layers * text.hidden_size + patches * depth * vision.hidden_size
    return _KEPT_PER_TOKEN * numbers * backbone.base.dtype.itemsize


@contextmanager
def recomputed_blocks(backbone: Backbone) -> Iterator[None]:
    """Blocks that run in here keep their inputs only, in evaluation mode too, and run again in the backward pass.

    Calls of several threads on one model may overlap: the last one to end puts everything back.
    """
    base = backbone.base  # several reward models may be around it
    with _lock:
        count, before = _inside.get(base, (0, None))
        if before is None:
            before = [(block, dict(vars(block))) for block in _blocks(backbone)]
            for block, _ in before:
                # Another thread may be in the block: what the switch needs is there before it, and stays behind it.
                block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
                block._can_checkpoint_with_cache = True
                block.gradient_checkpointing = True
        _inside[base] = (count + 1, before)
    try:
        # The block's own mode says whether it is recomputed; what is in it stays in evaluation mode.
        with in_mode([block for block, _ in before], training=True):
            yield
    finally:
        with _lock:
            count, before = _inside.pop(base)
            if count > 1:
                _inside[base] = (count - 1, before)
            else:
                for block, kept in before or ():
                    vars(block).pop("gradient_checkpointing")
                    vars(block).update({name: kept[name] for name in _SWITCH if name in kept})


def _blocks(backbone: Backbone) -> Iterator[GradientCheckpointingLayer]:
    return (each for each in backbone.base.modules() if isinstance(each, GradientCheckpointingLayer))
