"""What transformers below 5.18 does not do yet; 5.17 is the last version that vllm 0.31, and so TRL 1.16 with vLLM, takes.

From 5.18 on a model's forward pass takes what its vision tower made of the images (`mm_encoder_outputs`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any

import torch

_GIVEN = "mm_encoder_outputs"


class _PassesFeatures:
    """Before a model's own class: features in the place of pixels are what `get_image_features` would make of these."""

    def get_image_features(self, pixel_values: Any, *args: Any, **options: Any) -> Any:
        if hasattr(pixel_values, "pooler_output"):
            return _with_levels(pixel_values, torch.cat)
        return super().get_image_features(pixel_values, *args, **options)  # type: ignore[misc]


def _with_levels(features: Any, change: Callable[[Any], Any]) -> Any:
    """Features of deeper layers: from 5.18 on one tensor for each image, before one for all of them."""
    levels = getattr(features, "deepstack_features", None)
    if levels is None:
        return features
    changed = copy(features)
    changed.deepstack_features = [change(level) for level in levels]
    return changed


def takes_features(core: Any) -> bool:
    """Whether a model takes features of its images, or can be made to."""
    given = inspect.signature(core.forward).parameters
    return hasattr(core, "get_image_features") and (_GIVEN in given or "pixel_values" in given)


def accept_features(core: Any) -> None:
    """Let a model take features of its images."""
    if _GIVEN not in inspect.signature(core.forward).parameters and not isinstance(core, _PassesFeatures):
        kind: Any = type(core)
        core.__class__ = _with_features(kind)


def features_of(core: Any, **inputs: Any) -> Any:
    """What a model's vision tower makes of images, each image's on its own."""
    made = core.get_image_features(**inputs, return_dict=True)
    if not isinstance(core, _PassesFeatures):
        return made
    return _with_levels(made, lambda level: level.split([len(image) for image in made.pooler_output]))


def features_argument(core: Any, features: Any) -> dict[str, Any]:
    """Keyword arguments of a forward pass over tokens whose images have these features."""
    return {"pixel_values": features} if isinstance(core, _PassesFeatures) else {_GIVEN: {"image": features}}


@cache
def _with_features(kind: Any) -> Any:
    return type(
        kind.__name__, (_PassesFeatures, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )
