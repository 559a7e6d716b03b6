"""Several questions about one picture for little more than the price of one: what rows have in common is encoded once.

The result is that of a pass over every whole row, gradients to pixels and weights included. What rows have in common, and in
which passes it is encoded, is decided in `zreward.models.sharing`. Shapes: N rows, T tokens, H hidden.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from zreward.models.attention import use_prefixed_attention
from zreward.models.caches import Follow, shareable_layers, shortest_window
from zreward.models.inputs import ModelInput
from zreward.models.layouts import takes_grids
from zreward.models.modes import evaluation_mode
from zreward.models.opening import Opening
from zreward.models.padding import gated_layers, watch_padding
from zreward.models.passes import Images, PrefixState, run_pass, run_prefix
from zreward.models.sharing import SharedRows, share_rows
from zreward.models.split_weights import alike, in_all, prepare_layers

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone

_FEW = 4  # rows that are read both ways, before anything is shared
# Of a label's probability. Rounding grows in deep models; parts of them compute in float32 in a float64 model too.
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}
_TOLERANCE_OF_HALVES = 0.2  # probabilities of a 9 B model in bfloat16 differed by 0.04 between two right orders


def can_share(backbone: Backbone) -> bool:
    """Whether a model's layers keep what can be gone on from; any other model reads every row whole."""
    config = backbone.base.config
    gated = "linear_attention" in (getattr(config.get_text_config(), "layer_types", None) or ())
    return shareable_layers(config) and (not gated or bool(gated_layers(backbone.base)))


class SharedPrefix:
    """Runs rows in passes that share, and keeps the encoded opening between calls.

    Before anything is shared, a few rows are read both ways. Where the two differ, every row is read whole from then on, and a
    warning says so.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.opening = Opening()
        self.right: bool | None = None  # None: not tried yet
        if not can_share(backbone):
            self.right = False
            return
        watch_padding(backbone.base)
        use_prefixed_attention(backbone.base)
        for layer in backbone.base.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer._can_checkpoint_with_cache = True  # a PassCache may be written twice

    def cut(self, backbone: Backbone, inputs: ModelInput, singly: bool = False, ahead: int = 0) -> SharedRows | None:
        """How rows are cut into passes; None where they are read whole.

        `singly`: give single rows a prefix too. `ahead`: the most tokens that follow in later passes.
        """
        if self.right is False or _is_reentrant(backbone):
            return None
        if self.right is None:
            self._try(backbone, inputs)
        if not self.right:
            return None
        return _share(backbone, inputs, self.opening.may_be_kept(backbone), singly, ahead)

    def hidden_states(self, backbone: Backbone, inputs: ModelInput, cut: SharedRows) -> Tensor:
        """(N, T, H) of the branches, after the final norm."""
        images = Images(backbone.encode_images(inputs), inputs.grid)
        before, follow = self.encode(backbone, cut, images), cut.follow
        if before is not None and follow is None:
            follow = Follow.evenly(1, len(cut.branches.ids), before.mask.device)
        return backbone.reached(run_pass(backbone, cut.branches, images, before, follow), images.features, inputs)

    def encode(self, backbone: Backbone, cut: SharedRows, images: Images) -> PrefixState | None:
        """What branches go on from: their prefixes, or the opening alone, or nothing."""
        before = None if cut.opening is None else self.opening.encode(backbone, cut.opening)
        if cut.prefix is None:
            return before
        follow = None if before is None else Follow.evenly(1, len(cut.prefix.ids), before.mask.device)
        return run_prefix(backbone, cut.prefix, images, before, follow)

    @torch.no_grad()
    def _try(self, backbone: Backbone, inputs: ModelInput) -> None:
        """Read a few rows both ways. Where they have nothing to share, the next call tries."""
        few = replace(inputs.rows(slice(0, _FEW)), trace_mask=None, score_at=None)
        cut = _share(backbone, few, kept=True, singly=True)
        if cut is None:
            return
        with evaluation_mode(backbone):
            together = backbone.read(self.hidden_states(backbone, few, cut), of_branches(few, cut)).score_logits
            apart = backbone.read(backbone.hidden_states(few), few).score_logits
        if not in_all(backbone, bool(apart.isfinite().all())):
            return  # told of where the scores are read
        worst = float((together.softmax(-1) - apart.softmax(-1)).abs().max())
        right = worst <= _TOLERANCE.get(backbone.base.dtype, _TOLERANCE_OF_HALVES)
        self.right = in_all(backbone, right)
        if not right:
            warnings.warn(
                f"{type(backbone.base).__name__}: read in passes that share what rows have in common, probabilities differ by "
                f"{worst:.2g} from those of whole rows; every row is read whole from now on, which costs more",
                stacklevel=2,
            )


def _is_reentrant(backbone: Backbone) -> bool:
    """Whether checkpointed layers run without a graph at first: what they leave for other passes would carry no gradient."""
    if not (backbone.training and torch.is_grad_enabled()):
        return False
    layers = (each for each in backbone.base.modules() if getattr(each, "gradient_checkpointing", False))
    checkpoints = (getattr(each, "_gradient_checkpointing_func", None) for each in layers)
    return any(getattr(each, "keywords", {}).get("use_reentrant") for each in checkpoints)


def _share(backbone: Backbone, inputs: ModelInput, kept: bool, singly: bool, ahead: int = 0) -> SharedRows | None:
    """As `_share_here`; where weights are split, in the same passes in all processes, or not at all."""
    cut = _share_here(backbone, inputs, kept, singly, ahead)
    if not backbone.is_sharded:
        return cut
    if not alike(backbone, _passes(cut)):  # some have a single row, or a single item
        cut = _share_here(backbone, inputs, kept=True, singly=True, ahead=ahead)
        if not alike(backbone, _passes(cut)):
            return None
    prepare_layers(backbone.base)
    return cut


def _passes(cut: SharedRows | None) -> int:
    """A number for which passes are run."""
    return 0 if cut is None else 1 + (cut.opening is not None) + 2 * (cut.prefix is not None)


def _share_here(backbone: Backbone, inputs: ModelInput, kept: bool, singly: bool, ahead: int) -> SharedRows | None:
    """`share_rows`, but for rows in which padding between the passes may push tokens out of a sliding window."""
    cut = share_rows(inputs, backbone.image_token_id, kept, singly)
    window = shortest_window(backbone.base.config)
    return None if cut is not None and window is not None and cut.width + ahead >= window else cut


def of_branches(inputs: ModelInput, cut: SharedRows) -> ModelInput:
    """What belongs to the branches' hidden states."""
    return replace(
        inputs,
        input_ids=cut.branches.ids,
        attention_mask=cut.branches.mask,
        trace_mask=cut.trace_mask,
        score_at=cut.score_at,
    )


def generation_inputs(backbone: Backbone, encoded: PrefixState, suffix_ids: Tensor) -> dict[str, Any]:
    """What `generate` takes to go on after encoded prefixes and suffixes (M * times, T) without padding.

    Positions are given: `generate` would count on from what the last call of any thread left on the model.
    """
    follow = Follow.evenly(len(encoded.mask), len(suffix_ids) // len(encoded.mask), suffix_ids.device)
    mask = torch.cat([follow.select(encoded.mask), torch.ones_like(suffix_ids)], 1)
    # An image takes fewer positions than tokens.
    shift = follow.select(encoded.position - encoded.mask.sum(1))[:, None]
    places = mask.cumsum(1) - 1 + shift  # of the prefixes and their padding: any
    return {
        "input_ids": suffix_ids,
        "attention_mask": mask,
        "position_ids": places.expand(3, -1, -1) if takes_grids(backbone.base.model) else places,
        "past_key_values": encoded.cache.growing(backbone.base.config, follow),
    }
