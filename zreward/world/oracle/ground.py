"""What the oracle reads off the background: its colour, harshness, fading, noise and block pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from zreward.world.renderer import (
    BACKGROUNDS,
    BLOCK_AMPLITUDE,
    CHECKER,
    FADE,
    FADED_GREY,
    HARSH_BACKGROUNDS,
    NOISE_STD,
    PALETTE,
    SHADOW_DARKNESS,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """The background of a picture, and the colours that everything on it has by its fading."""

    colour: Array  # (3,)
    shadow: Array  # (3,): the background in shadow
    palette: dict[str, Array]  # name -> (3,), faded
    harsh: bool
    faded: int  # degree, as the next two
    noise: int
    blocks: int
    pixels: Array  # (H, W, 3): the picture without its block pattern


def read_ground(pixels: Array) -> Ground:
    """The background of a picture (H, W, 3) in [0, 1]: the most common colour and how it departs from being flat."""
    colour = np.median(pixels.reshape(-1, 3), axis=0)
    for _ in range(2):
        flat = np.abs(pixels - colour).max(-1) < 0.3
        colour = np.median(pixels[flat], axis=0) if flat.any() else colour
    flat = binary_erosion(np.abs(pixels - colour).max(-1) < 0.3, iterations=1)
    if flat.sum() < 40:  # hardly any background: a picture that is nothing but structure
        flat = np.ones_like(flat)
    light, dark = pixels[flat & (CHECKER > 0)].mean(0), pixels[flat & (CHECKER < 0)].mean(0)
    blocks = _nearest(float((light - dark).mean()), BLOCK_AMPLITUDE)
    clean = pixels - CHECKER[..., None].astype(np.float32) * BLOCK_AMPLITUDE[blocks] / 2
    level = clean[flat & (CHECKER < 0)] if blocks else clean[flat]  # the lighter squares may be clipped at white
    colour = np.median(level, axis=0).astype(np.float32)
    spread = 1.4826 * np.median(np.abs(level - colour), axis=0)  # robust standard deviation, per channel
    harsh, faded = _nearest_background(colour)
    original = (colour - FADE[faded] * FADED_GREY) / (1 - FADE[faded])
    palette = {name: _fade(np.asarray(value, np.float32), faded) for name, value in PALETTE.items()}
    return Ground(
        colour,
        _fade(original * (1 - SHADOW_DARKNESS), faded),
        palette,
        harsh,
        faded,
        _nearest(float(spread.max()), NOISE_STD),
        blocks,
        clean.astype(np.float32),
    )


def _fade(colour: Array, degree: int) -> Array:
    return (colour + FADE[degree] * (FADED_GREY - colour)).astype(np.float32)


def _nearest(value: float, levels: tuple[float, ...]) -> int:
    return int(np.abs(np.asarray(levels) - value).argmin())


def _nearest_background(colour: Array) -> tuple[bool, int]:
    """(harsh, degree of fading) of the nearest of all backgrounds at all degrees."""
    choices = [
        (float(np.abs(_fade(np.asarray(value, np.float32), degree) - colour).sum()), harsh, degree)
        for harsh, values in ((False, BACKGROUNDS), (True, HARSH_BACKGROUNDS))
        for value in values
        for degree in range(len(FADE))
    ]
    _, harsh, degree = min(choices)
    return harsh, degree
