"""One pass of a model over right-padded rows that go on from what earlier passes left.

Shapes: N rows, T tokens, P images, H hidden.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zreward.models.caches import AllLeft, Follow, PassCache
from zreward.models.inputs import shown_images
from zreward.models.layouts import takes_grids
from zreward.models.sharing import Part

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone


@dataclass(frozen=True)
class PrefixState:
    """What the model keeps of N rows of tokens, and where the text goes on."""

    cache: PassCache
    mask: Tensor  # (N, L), ones where real
    position: Tensor  # (N,): of the first token that follows


@dataclass(frozen=True)
class Images:
    """P encoded images."""

    features: Any  # the vision tower's output, by image; None without images
    grid: Tensor  # (P, 3)


def run_pass(
    backbone: Backbone,
    part: Part,
    images: Images | None = None,
    before: PrefixState | None = None,
    follow: Follow | None = None,
) -> Tensor:
    """Hidden states (N, T, H) after the final norm.

    Args:
        backbone: a model that `can_share`.
        part: N rows; with `images` where they show some.
        images: all images of the call; the rows' indices point into them.
        before: what `follow`'s rows go on from; None where they begin here.
        follow: which earlier row each row goes on from.
    """
    state, places = _before(backbone, part, images, before, follow, leaves=False)
    return _run(backbone, part, images, state, places)


def run_prefix(
    backbone: Backbone,
    part: Part,
    images: Images | None = None,
    before: PrefixState | None = None,
    follow: Follow | None = None,
) -> PrefixState:
    """What the same pass leaves for others. Without gradients it ends as soon as its last layer has left its part.

    Not where weights are sharded: they are put back at a layer's end.
    """
    state, places = _before(
        backbone, part, images, before, follow, ends=not (torch.is_grad_enabled() or backbone.is_sharded)
    )
    with suppress(AllLeft):
        _run(backbone, part, images, state, places)
    return state


def _before(
    backbone: Backbone,
    part: Part,
    images: Images | None,
    before: PrefixState | None,
    follow: Follow | None,
    leaves: bool = True,
    ends: bool = False,
) -> tuple[PrefixState, Tensor]:
    """What the pass will have left, its cache still empty; and the places of its tokens: (N, T), or (3, N, T)."""
    mask, position = part.mask, part.mask.new_zeros(len(part.mask))
    if before is not None and follow is not None:
        mask = torch.cat([follow.select(before.mask), mask], 1)
        position = follow.select(before.position)
    earlier = None if before is None else before.cache
    cache = PassCache(backbone.base.config, earlier, follow, part.mask, leaves, ends)
    places = _places(backbone, part, images) + position[:, None]  # of padding: any
    last = (places * part.mask).amax(-1)
    return PrefixState(cache, mask, (last if last.ndim == 1 else last.amax(0)) + 1), places


def _run(backbone: Backbone, part: Part, images: Images | None, state: PrefixState, places: Tensor) -> Tensor:
    shown = None
    if part.images is not None and images is not None:
        shown = backbone.shown(images.features, part.images)
    return backbone.run(part.ids, state.mask, shown, position_ids=places, past_key_values=state.cache)


def _places(backbone: Backbone, part: Part, images: Images | None) -> Tensor:
    """Of every token in its own part: (N, T), or (3, N, T) for models that count images by rows and columns."""
    core = backbone.base.model
    plain = (part.mask.cumsum(1) - 1).clamp(min=0)
    if not takes_grids(core):
        return plain
    if part.images is None or images is None:
        return plain.expand(3, -1, -1)
    grids = images.grid[shown_images(part.images)]
    if not len(grids):
        return plain.expand(3, -1, -1)
    arguments = backbone.image_arguments(part.ids, grids)
    return core.get_rope_index(input_ids=part.ids, attention_mask=part.mask, **arguments)[0]
