"""What a model's scores depend on, in short digests: weights, tokenizer, configuration, rubric, forms, resolution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from zreward.models.calibration import calibrations_dict

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

_PLACES = ("_name_or_path", "transformers_version", "_attn_implementation", "_attn_implementation_internal")
"""Of a configuration: where it came from and how it is run, which says nothing about scores."""


def weights_fingerprint(model: RewardModel, adapters: bool = True) -> str:
    """Sixteen letters that change with any bit of any weight, an adapter's base included.

    `adapters=False` leaves LoRA layers out: those that training starts from are random numbers of the recipe's seed.
    """
    weights = model.backbone.model.state_dict()
    return tensors_fingerprint({k: v for k, v in weights.items() if adapters or ".lora_" not in k})


def tensors_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sixteen letters for named tensors: their names, types, shapes and every bit."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().reshape(-1).contiguous()
        for part in flat.split(1 << 24):  # a large model is not copied as a whole
            digest.update(part.cpu().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def weights_fingerprint_1(model: RewardModel) -> str:
    """What version 0.1 wrote into its manifests: of every tensor its sum and its first values."""
    digest = hashlib.sha256()
    for name, value in model.backbone.model.state_dict().items():
        flat = value.detach().flatten()[:64].float().cpu()
        digest.update(f"{name} {value.float().sum().item():.6e}".encode() + flat.numpy().tobytes())
    return digest.hexdigest()[:16]


def model_fingerprint(model: RewardModel, adapters: bool = True) -> dict[str, Any]:
    """Everything that scores depend on, by name; equal for equal models, wherever they lie and on whatever device."""
    base = model.backbone.model
    base = base.get_base_model() if hasattr(base, "peft_config") else base
    config = {key: value for key, value in base.config.to_dict().items() if key not in _PLACES}
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return {
        "weights": weights_fingerprint(model, adapters),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "config": short_digest(config),
        "tokenizer": _tokenizer_fingerprint(model.tokenizer),
        "rubric": model.rubric.fingerprint(),
        "forms": short_digest(model.forms.digested()),
        "resolution": asdict(model.resolution),
        "preprocessing": short_digest(model.layout.preprocessor(model.resolution)),
        "adapter": _adapter_fingerprint(model.backbone.model) if adapters else None,
        "max_trace_tokens": model.max_trace_tokens,
    } | ({"calibration": short_digest(calibrations_dict(model.calibrations))} if model.calibrations else {})


def _adapter_fingerprint(model: Any) -> str | None:
    """Of an adapter's settings: its strength is not in its weights."""
    places = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")
    found = {
        name: {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in config.to_dict().items()
            if key not in places
        }
        for name, config in (getattr(model, "peft_config", None) or {}).items()
    }
    return short_digest(found) if found else None


def short_digest(value: Any) -> str:
    """Sixteen letters for a value that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _tokenizer_fingerprint(tokenizer: Any) -> str:
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return short_digest([sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, special])
