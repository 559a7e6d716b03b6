"""Defects that grow, for pictures of any kind: blur, noise, JPEG artefacts, a covered part. Each at `LEVELS` severities.

Sizes follow the picture's shorter side, so that a defect looks alike in small and large pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Defect = Callable[[Image.Image, int, np.random.Generator], Image.Image]
"""Picture, level from 1 to LEVELS, random numbers -> the spoiled picture."""

LEVELS = 4
MIDDLE = 3
"""The level at which a defect is plain to see while what is shown can still be told."""
BLUR = (0.005, 0.01, 0.02, 0.04)  # standard deviation, share of the shorter side; half a pixel at least at level 1
NOISE = (0.03, 0.06, 0.12, 0.24)  # standard deviation, of pixels in [0, 1]
QUALITY = (60, 30, 12, 4)
COVERED = (0.05, 0.1, 0.2, 0.4)  # share of the area
GREY = (128, 128, 128)


def blur(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    least = 0.4 * 1.6 ** (level - 1)  # pixels: less is no blur
    return image.filter(ImageFilter.GaussianBlur(max(least, BLUR[level - 1] * min(image.size))))


def noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64) / 255
    pixels = np.clip(pixels + rng.normal(0, NOISE[level - 1], pixels.shape), 0, 1)
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def jpeg(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY[level - 1])
    return Image.open(buffer).convert("RGB")


def occlusion(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """A grey rectangle of the picture's shape that grows around one place, wherever it fits."""
    share = COVERED[level - 1] ** 0.5
    width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
    across, down = rng.random(2)
    x, y = round(across * (image.width - width)), round(down * (image.height - height))
    spoiled = image.copy()
    spoiled.paste(GREY, (x, y, x + width, y + height))
    return spoiled


DEFECTS: dict[str, Defect] = {"blur": blur, "noise": noise, "jpeg": jpeg, "occlusion": occlusion}


def spoil(images: list[Image.Image], kind: str, level: int, seed: int) -> list[Image.Image]:
    """Every picture with a defect. The same picture gets the same place and the same pattern of noise at every level.

    Args:
        images: RGB.
        kind: of `DEFECTS`.
        level: 1 to LEVELS.
        seed: of the random numbers.
    """
    return [DEFECTS[kind](image, level, np.random.default_rng((seed, n))) for n, image in enumerate(images)]
