"""The trainable module: an image-text-to-text model that answers with label logits and the log-probabilities of its trace.

Shapes: N rows (one row = one item and dimension), T tokens, P distinct images, S score bins, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from zreward.models.inputs import ModelInput, shown_images
from zreward.models.layouts import takes_grids
from zreward.models.older_transformers import accept_features, features_argument, features_of
from zreward.models.shared_prefix import SharedPrefix, of_branches
from zreward.models.split_weights import most
from zreward.models.tower import projected

T = TypeVar("T")

HEAD_BYTES = 512 * 2**20  # of the float32 logits over the vocabulary that are held at a time


@dataclass(frozen=True)
class BackboneOutput:
    score_logits: Tensor  # (N, S): restricted to the label tokens, at each row's score position
    trace_log_probs: Tensor | None = None  # (N, T): log-probability of every trace token, zero elsewhere
    score_states: Tensor | None = None  # (N, H): what the label logits are read from; of passes without a trace


class Backbone(nn.Module):
    """A Hugging Face model (possibly with an adapter) that returns what rewards need and never (T, V) logits."""

    model: Any
    label_ids: Tensor
    trace_ban: Tensor
    blank: tuple[Tensor, Tensor] | None = None
    """Patches and grid (1, 3) of a picture that passes without pictures encode and do not show. In training where some, or all,
    records have none: each step and process then has a gradient for the vision tower, of zero, and runs its layers."""

    def __init__(self, model: Any, label_ids: Tensor, trace_ban: Tensor, image_token_id: int) -> None:
        super().__init__()
        self.model = model
        self.image_token_id = image_token_id
        self.register_buffer("label_ids", label_ids, persistent=False)
        self.register_buffer("trace_ban", trace_ban, persistent=False)

        accept_features(self.base.model)
        self.shared_prefix = SharedPrefix(self)
        # What transformers' Trainer asks of a model (FSDP wrapping, gradient checkpointing) is the inner model's.
        # LLaVA's names classes of CLIP's text tower too, which it does not have; accelerate would refuse.
        parts = {type(module).__name__ for module in self.base.modules()}
        self._no_split_modules = sorted(parts.intersection(getattr(self.base, "_no_split_modules", None) or ()))

    def gradient_checkpointing_enable(self, **options) -> None:
        self.base.gradient_checkpointing_enable(**options)

    def gradient_checkpointing_disable(self) -> None:
        self.base.gradient_checkpointing_disable()

    def tie_weights(self) -> None:
        """FSDP2 asks for it where it has replaced weights."""
        self.base.tie_weights()

    @property
    def is_sharded(self) -> bool:
        """Whether each process keeps a part of the weights only (FSDP, ZeRO-3), and all gather a layer's while it runs."""
        return isinstance(self, FSDPModule) or hasattr(next(self.parameters()), "ds_id")

    @property
    def base(self) -> Any:
        """The Hugging Face model itself, without a PEFT wrapper (adapter layers stay in place)."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def vision_tower(self) -> nn.Module:
        core = self.base.model
        return core.visual if hasattr(core, "visual") else core.vision_tower

    def within(self, work: Callable[[], T]) -> T:
        """What `work` returns, called inside a forward pass of the whole module.

        For whatever uses the module's parts: an engine that shards weights (FSDP) has them in place in there only.
        """
        return self(work)

    def forward(self, inputs: ModelInput | Callable[[], Any], temperature: float = 1.0) -> Any:
        """One pass: label logits (N, S) at the score position and, where `trace_mask` is given, the trace's log-probabilities.

        The log-probabilities are those of the distribution that sampling used: divided by `temperature`, control and
        vision tokens excluded. A function is called instead (see `within`).
        """
        if not isinstance(inputs, ModelInput):
            return inputs()
        cut = self.shared_prefix.cut(self, inputs) if inputs.share else None
        if cut is None:
            return self.read(self.hidden_states(inputs), inputs, temperature)
        branches = of_branches(inputs, cut)
        output = self.read(self.shared_prefix.hidden_states(self, inputs, cut), branches, temperature)
        if inputs.trace_mask is None or branches.trace_mask is None or output.trace_log_probs is None:
            return output
        mask_NT, log_probs_M = inputs.trace_mask.bool(), output.trace_log_probs[branches.trace_mask.bool()]
        return replace(
            output, trace_log_probs=log_probs_M.new_zeros(mask_NT.shape).masked_scatter(mask_NT, log_probs_M)
        )

    def read(self, hidden_NTH: Tensor, inputs: ModelInput, temperature: float = 1.0) -> BackboneOutput:
        """What the last hidden states of rows say."""
        at_N = inputs.score_at
        if at_N is None:
            at_N = inputs.attention_mask.shape[1] - 1 - inputs.attention_mask.flip(1).argmax(1)
        states_NH = hidden_NTH[torch.arange(len(inputs), device=at_N.device), at_N]
        score_logits = self.label_logits(states_NH)
        if inputs.trace_mask is None:
            return BackboneOutput(score_logits, score_states=states_NH)
        mask_NT = inputs.trace_mask.bool()
        before_M = hidden_NTH[:, :-1][mask_NT[:, 1:]]  # the state that predicts each trace token
        tokens_M = inputs.input_ids[mask_NT]
        log_probs_M = self._token_log_probs(before_M, tokens_M, temperature)
        log_probs_NT = log_probs_M.new_zeros(mask_NT.shape).masked_scatter(mask_NT, log_probs_M)
        return BackboneOutput(score_logits, log_probs_NT)

    def hidden_states(self, inputs: ModelInput) -> Tensor:
        """(N, T, H), after the final norm, in one pass over whole rows."""
        features = self.encode_images(inputs)
        hidden_NTH = self.run(
            inputs.input_ids,
            inputs.attention_mask,
            image=self.shown(features, inputs.row_images),
            **self.image_arguments(inputs.input_ids, inputs.grid[shown_images(inputs.row_images)]),
        )
        return self.reached(hidden_NTH, features, inputs)

    def reached(self, hidden_NTH: Tensor, features: Any, inputs: ModelInput) -> Tensor:
        """States (N, T, H) unchanged; where `features` are those of `blank`, their gradient reaches the vision tower: zero."""
        if features is None or len(inputs.grid):
            return hidden_NTH
        parts = [*features.pooler_output, *(getattr(features, "deepstack_features", None) or [])]
        return hidden_NTH + sum(
            0 * one.sum() for part in parts for one in (part if isinstance(part, list | tuple) else [part])
        )

    def run(self, input_ids: Tensor, attention_mask: Tensor, image: Any = None, **options: Any) -> Tensor:
        """(N, T, H), after the final norm: the language model over tokens, and over the features of their images."""
        features = {} if image is None else features_argument(self.base.model, image)
        # A cache is given where one is wanted.
        core = self.base.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **features, **options
        )
        return core.last_hidden_state

    def encode_images(self, inputs: ModelInput) -> Any:
        """The vision tower's features of all P images; without any those of `blank`, or None."""
        patches, grids = inputs.patches, inputs.grid
        if not len(grids):
            if self.blank is None:
                return None
            patches, grids = (part.to(inputs.input_ids.device) for part in self.blank)
        core = self.base.model
        if patches.ndim == 3:  # (P, T, C): of an image cache
            return projected(self.base, patches)
        grid = {"image_grid_thw": grids} if takes_grids(core) else {}
        return features_of(core, pixel_values=patches.to(self.base.dtype), **grid)

    def shown(self, features: Any, row_images_NK: Tensor) -> Any:
        """The features of images in the order in which rows show them; None where they show none."""
        order = shown_images(row_images_NK).tolist()
        if not order:
            return None
        chosen = copy(features)
        if isinstance(features.pooler_output, Tensor):
            chosen.pooler_output = features.pooler_output[order]
        else:
            chosen.pooler_output = tuple(features.pooler_output[i] for i in order)
        if getattr(features, "deepstack_features", None) is not None:
            chosen.deepstack_features = [tuple(level[i] for i in order) for level in features.deepstack_features]
        return chosen

    def image_arguments(self, input_ids: Tensor, grids: Tensor) -> dict[str, Tensor]:
        """What Qwen-type models want to know of rows (N, T) and the grids of all their images, in order; nothing for others.

        Nothing for text alone either, whose positions are counted as usual.
        """
        if not takes_grids(self.base.model) or not len(grids):
            return {}
        return {"mm_token_type_ids": (input_ids == self.image_token_id).int(), "image_grid_thw": grids}

    def label_logits(self, hidden_NH: Tensor) -> Tensor:
        """(N, S): the output layer's rows of the labels alone, never V logits of every token."""
        head = self.base.get_output_embeddings()
        weight = getattr(head, "weight", None)
        if (
            type(head) is nn.Linear
            and type(weight) is nn.Parameter
            and not weight.is_meta
            and weight.is_floating_point()
            and not hasattr(weight, "ds_id")  # under ZeRO-3 rows of a weight have no backward pass
        ):
            bias = None if head.bias is None else head.bias[self.label_ids]
            return _at_least_float32(F.linear(hidden_NH, weight[self.label_ids], bias))
        # Sharded, quantised or adapted head: let it run, but for N positions only.
        return _at_least_float32(head(hidden_NH)[:, self.label_ids])

    def _token_log_probs(self, hidden_MH: Tensor, tokens_M: Tensor, temperature: float) -> Tensor:
        head = self.base.get_output_embeddings()

        def chunk_log_probs(hidden: Tensor, tokens: Tensor) -> Tensor:
            logits = _at_least_float32(head(hidden)) / temperature
            logits = logits.index_fill(-1, self.trace_ban, float("-inf"))
            return -F.cross_entropy(logits, tokens, reduction="none")

        rows = head_rows(self.base.config.get_text_config().vocab_size)
        hidden, tokens = [*hidden_MH.split(rows)], [*tokens_M.split(rows)]
        if is_deepspeed_zero3_enabled():
            # All processes gather the head for every chunk, so those with shorter traces add empty ones.
            for _ in range(most(self, len(hidden)) - len(hidden)):
                hidden.append(hidden_MH[:0])
                tokens.append(tokens_M[:0])
            # Torch cannot compute again what ran on weights that DeepSpeed has taken away since.
            return torch.cat([chunk_log_probs(h, t) for h, t in zip(hidden, tokens, strict=True)])
        parts = zip(hidden, tokens, strict=True)
        # Recomputed in the backward pass, also where one chunk is all: nothing of the vocabulary's width is kept.
        return torch.cat([checkpoint(chunk_log_probs, h, t, use_reentrant=False) for h, t in parts])


def head_rows(vocabulary: int) -> int:
    """Tokens of a trace whose logits are held at a time: as many as `HEAD_BYTES` hold, at least one."""
    return max(1, HEAD_BYTES // (4 * vocabulary))


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype is torch.float64 else logits.float()
