"""One preprocessing for files, PIL images and tensors, differentiable to the pixels, without torchvision.

Everything becomes a float tensor (3, H, W) in [0, 1]; what follows (here and in `layouts`) are torch operations, so that
`score(images)` and `__call__(pixels)` cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zreward.errors import InputError

Resolution = tuple[int, int]  # height, width


@dataclass(frozen=True)
class ResolutionPolicy:
    """How large an image is when the model sees it; the aspect ratio is kept up to rounding to whole merged patches.

    `longest_side` (pixels) or `pixel_budget` (pixels in total): one of the two or neither; images below the limit are not
    enlarged except to at least one merged patch a side. With neither, the size is only rounded.
    """

    longest_side: int | None = None
    pixel_budget: int | None = None

    def __post_init__(self) -> None:
        if self.longest_side and self.pixel_budget:
            raise InputError("resolution: longest_side and pixel_budget were both given; choose one")
        for key, value in asdict(self).items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"resolution: {key} is {value!r}, expected a positive whole number of pixels")

    def target(self, size: Resolution, multiple: int) -> Resolution:
        """The (height, width) to resize to: multiples of `multiple` pixels, aspect kept, within the limit."""
        height, width = size
        shrink = 1.0
        if self.longest_side:
            shrink = min(1.0, self.longest_side / max(height, width))
        elif self.pixel_budget:
            shrink = min(1.0, math.sqrt(self.pixel_budget / (height * width)))
        # Where a limit shrinks, round down so that it holds; elsewhere to the nearest.
        rounded = math.floor if shrink < 1 else round
        return tuple(max(multiple, int(rounded(side * shrink / multiple)) * multiple) for side in (height, width))  # type: ignore[return-value]


def to_pixels(image: Any) -> Tensor:
    """A PIL image, a uint8 or float array (H, W, 3), or a float tensor (3, H, W) -> float32 tensor (3, H, W) in [0, 1].

    Raises InputError for any other type, shape or range: nothing is rescaled by guessing.
    """
    if isinstance(image, Tensor):
        return check_pixels(image)
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise InputError(f"image is a {type(image).__name__}; expected a path, PIL image, array (H, W, 3) or tensor")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image array has shape {image.shape}; expected (H, W, 3), RGB")
    if image.dtype == np.uint8:
        return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
    return check_pixels(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))


def check_pixels(pixels: Tensor) -> Tensor:
    """A float tensor (..., 3, H, W) whose values lie in [0, 1], returned as it is; InputError says what came instead."""
    if pixels.ndim < 3 or pixels.shape[-3] != 3:
        raise InputError(f"pixels have shape {tuple(pixels.shape)}; expected (N, 3, H, W) or (3, H, W), RGB")
    if not pixels.is_floating_point():
        raise InputError(f"pixels are {pixels.dtype}; expected floats in [0, 1] (divide bytes by 255)")
    low, high = (float(v) for v in torch.aminmax(pixels.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("pixels contain NaN or infinity")
    if low < -1e-4 or high > 1 + 1e-4:
        raise InputError(
            f"pixels range over [{low:.3g}, {high:.3g}]; expected [0, 1] (divide by 255, or undo normalisation)"
        )
    return pixels


def resize(pixels: Tensor, target: Resolution) -> Tensor:
    """(3, H, W) -> (3, *target) by antialiased bicubic interpolation, clamped to [0, 1]; the same object when sizes agree."""
    if tuple(pixels.shape[-2:]) == target:
        return pixels
    resized = F.interpolate(pixels[None], size=target, mode="bicubic", antialias=True, align_corners=False)[0]
    return resized.clamp(0, 1)
