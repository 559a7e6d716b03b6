"""The image processor's file of a checkpoint: colours' mean and spread are read from it, everything else is the model's own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward.common.errors import InputError, shown
from zreward.models.checkpoint_files import read_part
from zreward.models.layouts import Channels, ImageLayout, layout_of

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

_FILE = "preprocessor_config.json"


def recorded_layout(folders: list[Path], model: Any) -> ImageLayout:
    """The model's layout, with the mean and standard deviation of the first folder that has them."""
    layout: Any = layout_of(model.get_base_model() if hasattr(model, "peft_config") else model)
    for file in [folder / name for folder in folders for name in (_FILE, "processor_config.json")]:
        stored = read_part(file.parent, file.name)
        stored = stored.get("image_processor") or stored
        if not isinstance(stored, dict):
            raise InputError(f"{file}: image_processor is {shown(stored)}, expected an object")
        if stored:
            mean = _channels(stored.get("image_mean"), layout.mean, f"{file}: image_mean")
            std = _channels(stored.get("image_std"), layout.std, f"{file}: image_std", least=1e-3)
            return replace(layout, mean=mean, std=std)
    return layout


def save_preprocessor(reward_model: RewardModel, folder: Path) -> None:
    """An image-processor file, so that plain transformers and vLLM prepare images for this checkpoint."""
    config = reward_model.layout.preprocessor(reward_model.resolution)
    (folder / _FILE).write_text(json.dumps(config, indent=2))


def _channels(value: Any, default: Channels, what: str, least: float = -1e3) -> Channels:
    """Three numbers, of red, green and blue, in units of pixels in [0, 1]."""
    if value is None:
        return default
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(_is_number(number, least) for number in numbers):
        kind = "numbers above 0" if least > 0 else "numbers"
        raise InputError(f"{what} is {shown(value)}, expected three {kind}, one for each of red, green and blue")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _is_number(value: Any, least: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= 1e3
        and math.isfinite(value)
    )
