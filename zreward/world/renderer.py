"""Draw a scene: 32 x 32 pixels, light from the upper left, four samples a pixel along each side."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from zreward.world.scenes import PlacedObject, Scene

IMAGE_SIZE = 32
SAMPLES = 4
RADIUS = {"small": 3.6, "large": 6.0}  # pixels
PALETTE = {
    "red": (0.86, 0.14, 0.14),
    "green": (0.12, 0.62, 0.18),
    "blue": (0.14, 0.28, 0.88),
    "yellow": (0.95, 0.82, 0.10),
    "purple": (0.58, 0.16, 0.70),
    "cyan": (0.10, 0.75, 0.80),
}
BACKGROUNDS = ((0.93, 0.92, 0.90), (0.88, 0.90, 0.93), (0.92, 0.94, 0.89), (0.90, 0.90, 0.90))
HARSH_BACKGROUNDS = ((1.0, 0.45, 0.75), (0.72, 1.0, 0.30), (1.0, 0.62, 0.25), (0.98, 0.35, 0.95))
SHADOW_OFFSET = {"ok": (1.8, 1.8), "opposite": (-1.8, -1.8), "distant": (4.2, 4.2)}  # pixels right, down
SHADOW_DARKNESS = 0.45
CUT_SHIFT = (0.0, 3.0, 6.0)  # pixels, by degree
CUT_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # right, down
NOISE_STD = (0.0, 0.04, 0.10)
BLUR_STD = (0.0, 0.7, 1.2)  # pixels
BLOCK_AMPLITUDE = (0.0, 0.08, 0.2)
FADE = (0.0, 0.3, 0.55)  # towards FADED_GREY
FADED_GREY = 0.72
CHECKER = np.indices((IMAGE_SIZE, IMAGE_SIZE)).sum(axis=0) // 2 % 2 * 2.0 - 1  # the pattern of blocks, -1 and 1


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB image of 32 x 32 pixels. The same scene always gives the same pixels."""
    return Image.fromarray((render_array(scene) * 255).round().astype(np.uint8))


def render_array(scene: Scene) -> np.ndarray:
    """The scene as floats in [0, 1], (32, 32, 3)."""
    side = IMAGE_SIZE * SAMPLES
    axis = (np.arange(side, dtype=np.float32) + 0.5) / SAMPLES
    x, y = np.meshgrid(axis, axis)
    colour = (HARSH_BACKGROUNDS if scene.harsh else BACKGROUNDS)[scene.background]
    canvas = np.broadcast_to(np.asarray(colour, dtype=np.float32), (side, side, 3)).copy()
    dx, dy = (CUT_SHIFT[scene.cut] * toward for toward in CUT_SIDES[scene.cut_side])
    for placed in scene.objects:
        if placed.shadow != "missing":
            sx, sy = SHADOW_OFFSET[placed.shadow]
            canvas[coverage(placed, x - dx - sx, y - dy - sy)] *= 1 - SHADOW_DARKNESS
    for placed in scene.objects:
        canvas[coverage(placed, x - dx, y - dy)] = PALETTE[placed.colour]
    pixels = canvas.reshape(IMAGE_SIZE, SAMPLES, IMAGE_SIZE, SAMPLES, 3).mean(axis=(1, 3))
    return _degrade(pixels, scene)


def coverage(placed: PlacedObject, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of the points (x, y) an object covers; a split one has a gap through its middle and its lower half moved sideways."""
    u, v, r = x - placed.centre[0], y - placed.centre[1], RADIUS[placed.size]
    if placed.split:
        lower = v > 0
        gap = np.abs(v) < 0.6
        u = np.where(lower, u - 0.5 * r, u + 0.5 * r)
        return _shape(placed.shape, u, v, r) & ~gap
    return _shape(placed.shape, u, v, r)


def _shape(shape: str, u: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    if shape == "circle":
        return u**2 + v**2 <= r**2
    if shape == "square":
        return (np.abs(u) <= 0.88 * r) & (np.abs(v) <= 0.88 * r)
    if shape == "triangle":
        return (v <= 0.85 * r) & (v >= -r + 1.85 * np.abs(u))
    arm = 0.34 * r
    return ((np.abs(u) <= arm) & (np.abs(v) <= r)) | ((np.abs(v) <= arm) & (np.abs(u) <= r))


def _degrade(pixels: np.ndarray, scene: Scene) -> np.ndarray:
    if scene.faded:
        pixels = pixels + FADE[scene.faded] * (FADED_GREY - pixels)
    if scene.blur:
        pixels = gaussian_filter(pixels, sigma=(BLUR_STD[scene.blur], BLUR_STD[scene.blur], 0))
    if scene.blocks:
        pixels = pixels + BLOCK_AMPLITUDE[scene.blocks] * CHECKER[..., None] / 2
    if scene.noise:
        rng = np.random.default_rng(scene.pixel_seed)
        pixels = pixels + rng.normal(0, NOISE_STD[scene.noise], pixels.shape)
    return np.clip(pixels, 0, 1).astype(np.float32)
