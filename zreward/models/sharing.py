"""Which tokens rows have in common, so that each is encoded once: the rubric for all, image and prompt for all their questions.

    opening   what all rows begin with, before the first image: system text and rubric        (H tokens)
    prefix    an item's image and prompt, and what else its rows have in common                (M rows)
    branches  the rest of each row: a question, or a trace and its answer                      (N rows)

Either of the first two may be missing. Shapes: M items, N rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zreward.models.caches import Follow
from zreward.models.inputs import ModelInput

SHORTEST = (
    2  # tokens that go on from others: a single one would be decoded by kernels that write into the states they read
)
SHORT_OPENING = 64  # tokens; a shorter one costs less with every row than a pass of its own


@dataclass(frozen=True)
class Part:
    """Rows of one pass, padded on the right; prefixes that nothing stands before on the left, where no state has begun."""

    ids: Tensor  # (N, T)
    mask: Tensor  # (N, T), ones where real
    images: Tensor | None = None  # (N, K): of every row, in the order of its placeholders; None for text alone


@dataclass(frozen=True)
class SharedRows:
    """The same rows as a `ModelInput`'s, cut into passes."""

    opening: Tensor | None  # (H,)
    prefix: Part | None  # M rows
    branches: Part  # N rows
    follow: Follow | None  # which prefix each branch goes on from; None without prefixes
    trace_mask: Tensor | None  # (N, T) of the branches
    score_at: Tensor  # (N,): where in its branch a row's label is predicted

    @property
    def width(self) -> int:
        """Places of the keys that a branch's last token sees, padding between the passes counted."""
        before = 0 if self.opening is None else len(self.opening)
        return before + sum(part.ids.shape[1] for part in (self.prefix, self.branches) if part is not None)

    @property
    def tokens(self) -> int:
        """That pass the model, padding left out."""
        parts = [part.mask.sum() for part in (self.prefix, self.branches) if part is not None]
        return int(sum(parts)) + (0 if self.opening is None else len(self.opening))


def share_rows(inputs: ModelInput, image_token_id: int, kept: bool, singly: bool = False) -> SharedRows | None:
    """Cut rows into passes; None where that saves nothing.

    Args:
        inputs: N right-padded rows; rows of an item stand next to each other.
        image_token_id: the placeholder's.
        kept: whether the opening's encoding outlives this call; otherwise it is worth its own pass for several rows only.
        singly: give items of one row a prefix too (for what goes on from it later).
    """
    ids, lengths = inputs.input_ids, inputs.attention_mask.sum(1)
    is_image = ids == image_token_id
    score_at = lengths - 1 if inputs.score_at is None else inputs.score_at
    most = _longest_prefixes(inputs, lengths, score_at)
    starts, item_of = _prefix_ends(inputs, most, is_image, singly)
    items = int(item_of[-1]) + 1
    opening = _opening(ids, is_image, most if starts is None else starts - SHORTEST, items)
    if (starts is None and not opening) or (starts is None and not kept and len(ids) == 1):
        return None
    if opening and not kept and items == 1 and starts is not None:
        opening = 0  # one item's prefix may as well begin with it
    begin = torch.full_like(lengths, opening)
    prefix, follow = None, None
    if starts is not None:
        first = torch.searchsorted(item_of, torch.arange(items, device=ids.device))
        prefix = Part(
            *_cut(ids, first, begin[first], starts[first] - opening, left=not opening), inputs.row_images[first]
        )
        even = len(ids) % items == 0 and bool((item_of.bincount() == len(ids) // items).all())
        follow = Follow(item_of, len(ids) // items if even else None)
        begin = starts
    rows = torch.arange(len(ids), device=ids.device)
    images = inputs.row_images if starts is None else None
    branches = Part(*_cut(ids, rows, begin, lengths - begin), images)
    trace = None
    if inputs.trace_mask is not None:
        trace = _cut(inputs.trace_mask, rows, begin, lengths - begin)[0]
    return SharedRows(ids[0, :opening] if opening else None, prefix, branches, follow, trace, score_at - begin)


def _opening(ids: Tensor, is_image: Tensor, most: Tensor, items: int) -> int:
    """How many tokens all rows begin with. Where some show no image, what several items have in common says where it ends."""
    has_image = is_image.any(1)
    if items == 1 and not bool(has_image.all()):
        return 0
    ends = torch.where(has_image, is_image.int().argmax(1), most)
    common = int(torch.minimum(_alike(ids, torch.zeros_like(ends)), ends).min())
    return common if common >= SHORT_OPENING else 0


def _longest_prefixes(inputs: ModelInput, lengths: Tensor, score_at: Tensor) -> Tensor:
    """(N,): how many of a row's tokens may be encoded before its branch."""
    most = torch.minimum(lengths - SHORTEST, score_at)
    if inputs.trace_mask is None:
        return most
    # What predicts a trace's first token belongs to the branch.
    has_trace = inputs.trace_mask.any(1)
    return torch.where(has_trace, torch.minimum(most, inputs.trace_mask.argmax(1) - 1), most)


def _prefix_ends(inputs: ModelInput, most: Tensor, is_image: Tensor, singly: bool) -> tuple[Tensor | None, Tensor]:
    """Where each row's branch starts (N,), the same for rows of an item, and the item of each row.

    No starts where no item has several rows, or an image would not be in its prefix.
    """
    shown = inputs.row_images if inputs.items is None else inputs.items[:, None]
    new = torch.ones(len(shown), dtype=torch.bool, device=shown.device)
    new[1:] = (shown[1:] != shown[:-1]).any(1)
    item_of = new.cumsum(0) - 1
    first = new.nonzero()[:, 0][item_of]
    if not singly and bool(new.all()):
        return None, item_of
    common = torch.minimum(_alike(inputs.input_ids, first), most)
    ends = torch.full_like(common, inputs.input_ids.shape[1]).scatter_reduce(0, item_of, common, "amin")[item_of]
    last_image = is_image.shape[1] - 1 - is_image.flip(1).int().argmax(1)
    if bool((ends <= last_image.masked_fill(~is_image.any(1), 0)).any()):
        return None, item_of
    return ends, item_of


def _alike(ids_NT: Tensor, other_N: Tensor) -> Tensor:
    """(N,): how many tokens each row begins with like another row; padding counts as a token."""
    return (ids_NT == ids_NT[other_N]).cumprod(1).sum(1)


def _cut(values_NT: Tensor, rows: Tensor, begin: Tensor, length: Tensor, left: bool = False) -> tuple[Tensor, Tensor]:
    """Parts of rows, padded with zeros on the right or `left` -> (len(rows), T) values and the mask of ones where real."""
    offsets = torch.arange(int(length.max()), device=values_NT.device).expand(len(rows), -1)
    if left:
        offsets = offsets - (offsets.shape[1] - length[:, None])
    mask = (offsets >= 0) & (offsets < length[:, None])
    places = (begin[:, None] + offsets).clamp(0, values_NT.shape[1] - 1)
    return values_NT[rows].gather(1, places) * mask, mask.long()
