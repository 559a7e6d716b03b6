"""What the renderer's shapes look like at any sub-pixel place: the measuring sticks of the oracle.

Shapes: T templates, P phases (sub-pixel places), L blur levels, W x W window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from zreward.world.grammar import SHAPES, SIZES
from zreward.world.renderer import BLUR_STD, SAMPLES, coverage
from zreward.world.scenes import PlacedObject

Array = NDArray[np.float32]

WINDOW = 21  # pixels; a large object, blurred and moved by a pixel, fits in
PHASES = tuple(product((-0.375, -0.125, 0.125, 0.375), repeat=2))  # right, down, in pixels


@dataclass(frozen=True)
class Kind:
    """What a template shows."""

    shape: str
    size: str
    split: bool


KINDS = tuple(Kind(shape, size, split) for shape in SHAPES for size in SIZES for split in (False, True))


def object_mask(kind: Kind, x: float, y: float, side: int) -> Array:
    """Share of every pixel that an object of this kind with its centre at (x, y) covers, (side, side)."""
    axis = (np.arange(side * SAMPLES, dtype=np.float32) + 0.5) / SAMPLES
    across, down = np.meshgrid(axis, axis)
    placed = PlacedObject(kind.size, "red", kind.shape, (x, y), None, split=kind.split)
    covered = coverage(placed, across, down).astype(np.float32)
    return covered.reshape(side, SAMPLES, side, SAMPLES).mean(axis=(1, 3))


@cache
def window_templates() -> Array:
    """(L, P, T, W, W): every kind at every phase around the window's centre, as sharp as each blur level leaves it."""
    middle = WINDOW / 2
    sharp = np.stack(
        [np.stack([object_mask(kind, middle + dx, middle + dy, WINDOW) for kind in KINDS]) for dx, dy in PHASES]
    )
    return np.stack([sharp if not std else gaussian_filter(sharp, (0, 0, std, std)) for std in BLUR_STD])
