"""A frozen vision tower's features of pictures, kept on disk: what follows costs the language model only.

One safetensors file for each picture, in a folder for each tower. The folder's name is a digest of all that features depend on
besides the picture: the tower's weights and configuration, which of its states are taken and how they are pooled, number format,
and how pictures are brought to the tower's size. A picture's name is the digest of its content (`data.fingerprint`). So nothing
kept is ever stale, and runs, evaluations and models share what they have in common.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zreward.common.bounded import check_regular
from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.fingerprint import image_digest
from zreward.data.images import as_source
from zreward.models.feeding import decode, patches
from zreward.models.fingerprint import short_digest, tensors_fingerprint
from zreward.models.layouts import SquareLayout
from zreward.models.modes import evaluation_mode
from zreward.models.tower import KEY, projector_of, tower_features

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

_FEATURES = "features"
_CONFIGURED = ("vision_feature_layer", "vision_feature_select_strategy", KEY)


class ImageCache:
    """Features of pictures for one model; its tower must not change while the cache is used.

    Args:
        folder: where they are kept; made when it is missing.
        model: a LLaVA-type model, its tower frozen.

    Raises:
        InputError: a model of another type, a tower that is trained.
    """

    def __init__(self, folder: str | Path, model: RewardModel) -> None:
        backbone = model.backbone
        projector_of(backbone.base)
        if any(weight.requires_grad for weight in backbone.vision_tower.parameters()):
            raise InputError(
                "model.image_cache keeps what a frozen vision tower makes of pictures, but this one is trained; set "
                "model.freeze_vision, or leave model.image_cache out"
            )
        self.folder = Path(folder) / _key(model)
        self._lock = threading.Lock()

    def features(self, model: RewardModel, image: Any, mirrored: bool = False) -> Tensor:
        """(T, C): what the model's projector takes of a picture, or of its mirror image.

        Arrays and tensors are not looked up: they change too easily.
        """
        if isinstance(image, Tensor | np.ndarray):
            return self._make(model, image, mirrored)
        digest = image_digest(as_source(image))
        file = self.folder / digest[:2] / f"{digest}{'-mirrored' if mirrored else ''}.safetensors"
        if file.exists():
            return _read(file, self._shape(model))
        made = self._make(model, image, mirrored)
        with atomic_path(file) as temporary:
            save_file({_FEATURES: made}, temporary)
        return made

    def _shape(self, model: RewardModel) -> tuple[int, int]:
        config, layout = model.backbone.base.config, model.layout
        layers = config.vision_feature_layer
        width = config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
        assert isinstance(layout, SquareLayout), "checked when the cache was made"
        return layout.tokens_per_image, width

    @torch.no_grad()
    def _make(self, model: RewardModel, image: Any, mirrored: bool) -> Tensor:
        decoded = decode(image, model.layout, model.resolution, model.device)
        pixels, _ = patches([decoded.flip(-1) if mirrored else decoded], model.layout, model.resolution, model.device)
        base = model.backbone.base
        with self._lock, evaluation_mode(model.backbone.vision_tower):
            features_1TC = tower_features(base, pixels.to(base.dtype))
        return features_1TC[0].contiguous().cpu()


def _key(model: RewardModel) -> str:
    base, tower = model.backbone.base, model.backbone.vision_tower
    if not isinstance(model.layout, SquareLayout):
        raise InputError(f"model.image_cache: {type(model.layout).__name__} has no fixed size of images")
    facts = {
        "weights": tensors_fingerprint(tower.state_dict()),
        "tower": base.config.vision_config.to_dict(),
        "taken": {key: getattr(base.config, key, None) for key in _CONFIGURED},
        "dtype": str(base.dtype),
        "pictures": model.layout.preprocessor(model.resolution),
        "limit": str(model.resolution),
    }
    return short_digest(facts)


def _read(file: Path, shape: tuple[int, int]) -> Tensor:
    try:
        check_regular(file, "features of a picture")
        found = load_file(file)[_FEATURES]
        if found.shape != shape or not found.is_floating_point() or not found.isfinite().all():
            raise ValueError(f"{found.dtype}, {list(found.shape)}; expected finite numbers, {list(shape)}")
        return found
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{file} is damaged ({str(error)[:100]}); delete it, and it is made again") from None
