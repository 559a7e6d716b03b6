"""The trainable module: an image-text-to-text model that answers with label logits and the log-probabilities of its trace.

Shapes: N rows (one row = one image, prompt and dimension), T tokens, P distinct images, S score bins, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zreward.models.layouts import takes_grids

_HEAD_CHUNK = 4096  # tokens of a trace whose V logits are held at a time


@dataclass(frozen=True)
class ModelInput:
    """Rows ready for the model. Rows share images: `row_images[n]` are the indices of row n's image(s)."""

    input_ids: Tensor  # (N, T)
    attention_mask: Tensor  # (N, T), ones where real
    patches: Tensor  # the images' patches (sum of patches, C) or squares (P, 3, side, side), one after another
    grid: Tensor  # (P, 3): frames, patch rows, patch columns
    row_images: Tensor  # (N, 1), or (N, 2) with a reference: in the order of the row's placeholders
    trace_mask: Tensor | None = None  # (N, T), ones on the tokens of a trace or explanation
    score_at: Tensor | None = (
        None  # (N,): where the label is predicted, when an explanation follows; default the last token
    )

    def to(self, device: torch.device) -> ModelInput:
        return replace(self, **{k: to_device(v, device) for k, v in vars(self).items() if v is not None})

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def rows(self, chosen: slice) -> ModelInput:
        """A slice of rows; all images stay, rows point into them."""
        return replace(
            self,
            input_ids=self.input_ids[chosen],
            attention_mask=self.attention_mask[chosen],
            row_images=self.row_images[chosen],
            trace_mask=None if self.trace_mask is None else self.trace_mask[chosen],
            score_at=None if self.score_at is None else self.score_at[chosen],
        )


@dataclass(frozen=True)
class BackboneOutput:
    score_logits: Tensor  # (N, S): restricted to the label tokens, at each row's score position
    trace_log_probs: Tensor | None = None  # (N, T): log-probability of every trace token, zero elsewhere


class Backbone(nn.Module):
    """A Hugging Face model (possibly with an adapter) that returns what rewards need and never (T, V) logits."""

    model: Any
    label_ids: Tensor
    trace_ban: Tensor

    def __init__(self, model: Any, label_ids: Tensor, trace_ban: Tensor, image_token_id: int) -> None:
        super().__init__()
        self.model = model
        self.image_token_id = image_token_id
        self.register_buffer("label_ids", label_ids, persistent=False)
        self.register_buffer("trace_ban", trace_ban, persistent=False)

        # What transformers' Trainer asks of a model (FSDP wrapping, gradient checkpointing) is the inner model's.
        self._no_split_modules = getattr(self.base, "_no_split_modules", None)

    def gradient_checkpointing_enable(self, **options) -> None:
        self.base.gradient_checkpointing_enable(**options)

    def gradient_checkpointing_disable(self) -> None:
        self.base.gradient_checkpointing_disable()

    @property
    def base(self) -> Any:
        """The Hugging Face model itself, without a PEFT wrapper (adapter layers stay in place)."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def vision_tower(self) -> nn.Module:
        core = self.base.model
        return core.visual if hasattr(core, "visual") else core.vision_tower

    def forward(self, inputs: ModelInput, temperature: float = 1.0) -> BackboneOutput:
        """One pass: label logits (N, S) at the score position and, where `trace_mask` is given, the trace's log-probabilities.

        The log-probabilities are those of the distribution that sampling used: divided by `temperature`, control and
        vision tokens excluded.
        """
        hidden_NTH = self.hidden_states(inputs)
        at_N = inputs.score_at
        if at_N is None:
            at_N = inputs.attention_mask.shape[1] - 1 - inputs.attention_mask.flip(1).argmax(1)
        score_logits = self.label_logits(hidden_NTH[torch.arange(len(inputs), device=at_N.device), at_N])
        if inputs.trace_mask is None:
            return BackboneOutput(score_logits)
        mask_NT = inputs.trace_mask.bool()
        before_M = hidden_NTH[:, :-1][mask_NT[:, 1:]]  # the state that predicts each trace token
        tokens_M = inputs.input_ids[mask_NT]
        log_probs_M = self._token_log_probs(before_M, tokens_M, temperature)
        log_probs_NT = log_probs_M.new_zeros(mask_NT.shape).masked_scatter(mask_NT, log_probs_M)
        return BackboneOutput(score_logits, log_probs_NT)

    def hidden_states(self, inputs: ModelInput, cache: Any = None) -> Tensor:
        """(N, T, H), after the final norm. Every distinct image goes through the vision tower once; `cache` is filled."""
        core = self.base.model
        grid = {"image_grid_thw": inputs.grid} if takes_grids(core) else {}
        features = core.get_image_features(pixel_values=inputs.patches.to(self.base.dtype), **grid, return_dict=True)
        shown = inputs.row_images.flatten().tolist()
        features.pooler_output = tuple(features.pooler_output[i] for i in shown)
        if getattr(features, "deepstack_features", None) is not None:
            features.deepstack_features = [tuple(level[i] for i in shown) for level in features.deepstack_features]
        return core(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            mm_encoder_outputs={"image": features},
            past_key_values=cache,
            use_cache=cache is not None,
            **self.image_arguments(inputs.input_ids, inputs.grid[inputs.row_images.flatten()]),
        ).last_hidden_state

    def image_arguments(self, input_ids: Tensor, grids: Tensor) -> dict[str, Tensor]:
        """What Qwen-type models want to know of rows (N, T) and the grids of all their images, in order; nothing for others."""
        if not takes_grids(self.base.model):
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

        if len(tokens_M) <= _HEAD_CHUNK:
            return chunk_log_probs(hidden_MH, tokens_M)
        parts = zip(hidden_MH.split(_HEAD_CHUNK), tokens_M.split(_HEAD_CHUNK), strict=True)
        return torch.cat([checkpoint(chunk_log_probs, h, t, use_reentrant=False) for h, t in parts])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU from pinned memory, so that the copy runs beside what was queued before it."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.requires_grad:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype is torch.float64 else logits.float()
