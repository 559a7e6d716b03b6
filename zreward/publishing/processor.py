"""The files by which transformers' AutoProcessor and vLLM prepare pictures for an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.common.files import write_json
from zreward.models.layouts import PatchLayout, SquareLayout
from zreward.models.reward_model import RewardModel

_SQUARE = ("llava",)
"""Of the models with one fixed image size, those whose processor's settings are known here."""


def write_processor(model: RewardModel, folder: Path) -> None:
    """Write processor_config.json, preprocessor_config.json and, for models that take videos, video_preprocessor_config.json.

    Raises InputError for a model type whose processor is not known.
    """
    config = model.backbone.base.config
    image = _image_processor(model)
    whole: dict[str, Any] = {"processor_class": _processor_class(config.model_type), "image_processor": image}
    layout = model.layout
    if isinstance(layout, PatchLayout):
        video = _video_processor(image, config.model_type)
        whole["video_processor"] = video
        write_json(folder / "video_preprocessor_config.json", video)
    elif isinstance(layout, SquareLayout) and config.model_type in _SQUARE:
        whole |= _square_settings(model, layout)
    else:
        raise InputError(
            f"model type {config.model_type!r}: its processor's settings are not known to zreward; exported are Qwen-type models "
            f"and {', '.join(_SQUARE)}"
        )
    write_json(folder / "preprocessor_config.json", image | {"processor_class": whole["processor_class"]})
    write_json(folder / "processor_config.json", whole)


def _processor_class(model_type: str) -> str:
    """transformers' own table knows it by the model's type."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    found = PROCESSOR_MAPPING_NAMES.get(model_type)
    if not isinstance(found, str):
        raise InputError(
            f"model type {model_type!r}: transformers knows no processor for it; exported are Qwen-type models and "
            f"{', '.join(_SQUARE)}"
        )
    return found


def _image_processor(model: RewardModel) -> dict[str, Any]:
    """What the layout writes, with every default that another version might change."""
    found = model.layout.preprocessor(model.resolution)
    fixed: dict[str, Any] = {"do_convert_rgb": True, "do_resize": True, "do_rescale": True, "do_normalize": True}
    fixed |= {"rescale_factor": 1 / 255, "resample": 3}  # bicubic
    if not isinstance(model.layout, SquareLayout):
        return fixed | found
    # Pad to a square on the mean colour, then resize: the nearest to zreward's own resizing before padding.
    side = {"height": model.layout.side, "width": model.layout.side}
    return fixed | found | {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "crop_size": side}


def _video_processor(image: dict[str, Any], model_type: str) -> dict[str, Any]:
    """Videos were never trained on; without this file the processor does not load."""
    kind = "Qwen2VLVideoProcessor" if model_type.startswith("qwen2") else "Qwen3VLVideoProcessor"
    return {key: value for key, value in image.items() if key != "image_processor_type"} | {
        "video_processor_type": kind
    }


def _square_settings(model: RewardModel, layout: SquareLayout) -> dict[str, Any]:
    config = model.backbone.base.config
    patch, strategy = config.vision_config.patch_size, config.vision_feature_select_strategy
    grid = (layout.side // patch) ** 2
    return {
        "image_token": model.tokenizer.convert_ids_to_tokens(config.image_token_id),
        "patch_size": patch,
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": layout.tokens_per_image - grid + (strategy == "default"),
    }
