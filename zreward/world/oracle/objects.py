"""What stands in a picture: objects found by their colour, measured by fitting every shape at every place.

Shapes: L blur levels, P phases, T templates, K places, W window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from zreward.world.oracle.ground import Ground
from zreward.world.oracle.templates import KINDS, PHASES, WINDOW, Kind, object_mask, window_templates
from zreward.world.renderer import BLUR_STD, FADE, NOISE_STD, SHADOW_OFFSET

Array = NDArray[np.float32]

BLOB = 2.2  # pixels: smoothing under which an object is one peak
NEIGHBOUR = 8  # pixels: two objects are never nearer
FAINTEST = 0.08  # of a blob's peak
LEAST = 3.5  # squared opacity that an object has to explain: half of the smallest and most blurred one's
PASSES = 3
REACH = 3  # pixels around a peak in which a shape's centre is looked for


@dataclass(frozen=True)
class Found:
    """An object as measured."""

    colour: str
    kind: Kind
    x: float  # pixels from the left edge
    y: float  # pixels from the upper edge
    shadow: str  # ok | missing | opposite | distant


@dataclass(frozen=True)
class Placed:
    colour: str
    kind: Kind
    x: float
    y: float


@dataclass(frozen=True)
class Fit:
    """Every template tried around a peak."""

    colour: str
    gains: Array  # (L, K, P, T): squared opacity that a template explains
    places: list[tuple[float, float]]  # of the K windows' middles

    def best(self, blur: int | None = None) -> Placed:
        """The template that explains most, at this degree of blur or at any."""
        gains = self.gains.max(0) if blur is None else self.gains[blur]
        k, p, t = np.unravel_index(gains.argmax(), gains.shape)
        return Placed(self.colour, KINDS[t], self.places[k][0] + PHASES[p][0], self.places[k][1] + PHASES[p][1])


def find_objects(ground: Ground) -> tuple[list[Found], int]:
    """The objects of a picture and the degree of its blur."""
    fits = _fit_all(ground)
    if not fits:
        return [], 0
    blur = int(np.sum([fit.gains.max(axis=(1, 2, 3)) for fit in fits], axis=0).argmax())
    placed: list[Placed] = []
    for fit in fits:
        found = fit.best(blur)
        if all(_apart(found, other) for other in placed):
            placed.append(found)
    return _with_shadows(ground, placed, BLUR_STD[blur]), blur


def _fit_all(ground: Ground) -> list[Fit]:
    """The strongest blobs first; what their fits leave unexplained is searched again: a large object can hide another's peak."""
    foreground = left = _foreground(ground)
    fits: list[Fit] = []
    for _ in range(PASSES):
        known = [fit.best() for fit in fits]
        peaks = [at for at in _peaks(left) if all(_apart(at, other) for other in known)]
        middles = peaks + [(int(thing.x), int(thing.y)) for thing in known]
        new = []
        for peak in peaks:
            colour = _colour(ground, foreground, peak)
            fit = _fit(colour, _opacity(ground, colour), peak, [other for other in middles if other != peak])
            if fit.gains.max() > LEAST:
                new.append(fit)
        if not new:
            break
        fits += new
        for fit in new:
            thing = fit.best()
            left = left * (
                1 - np.clip(1.5 * gaussian_filter(object_mask(thing.kind, thing.x, thing.y, len(left)), 1.0), 0, 1)
            )
    return fits


def _apart(first: tuple[float, float] | Placed, second: Placed) -> bool:
    x, y = (first.x, first.y) if isinstance(first, Placed) else first
    return (x - second.x) ** 2 + (y - second.y) ** 2 >= NEIGHBOUR**2


def _foreground(ground: Ground) -> Array:
    """(H, W) in [0, 1]: how far a pixel is from every shade between the background and its shadow."""
    strong = ground.noise == len(NOISE_STD) - 1
    pixels = gaussian_filter(ground.pixels, (0.6, 0.6, 0)) if strong else ground.pixels
    down = ground.shadow - ground.colour
    along = np.clip((pixels - ground.colour) @ down / max(float(down @ down), 1e-6), 0, 1.6)[..., None]
    distance = np.linalg.norm(pixels - ground.colour - along * down, axis=-1)
    floor = NOISE_STD[ground.noise] * (0.8 if strong else 1.5)
    return np.clip((distance - floor) / (0.45 * (1 - FADE[ground.faded])), 0, 1).astype(np.float32)


def _peaks(foreground: Array) -> list[tuple[int, int]]:
    """(column, row) of every blob, the strongest first."""
    blobs = gaussian_filter(foreground, BLOB, mode="constant")
    top = (blobs == maximum_filter(blobs, size=5)) & (blobs > FAINTEST)
    kept: list[tuple[int, int]] = []
    for row, column in sorted(np.argwhere(top), key=lambda at: -blobs[tuple(at)]):
        if all((column - c) ** 2 + (row - r) ** 2 >= NEIGHBOUR**2 for c, r in kept):
            kept.append((int(column), int(row)))
    return kept


def _colour(ground: Ground, foreground: Array, peak: tuple[int, int]) -> str:
    """The palette's colour that the purest pixels around a peak have."""
    rows, columns = np.indices(foreground.shape)
    near = (columns - peak[0]) ** 2 + (rows - peak[1]) ** 2 <= 5**2
    chosen = ground.pixels[near & (foreground > 0.5)]
    if not len(chosen):
        chosen = ground.pixels[near]
    distance = np.linalg.norm(chosen - ground.colour, axis=-1)
    pure = chosen[distance >= np.quantile(distance, 0.5)].mean(0)
    return min(ground.palette, key=lambda name: float(np.linalg.norm(ground.palette[name] - pure)))


def _opacity(ground: Ground, colour: str) -> Array:
    """(H, W): how much of a pixel an object of this colour covers, after taking out what shadow explains."""
    basis = np.stack([ground.palette[colour] - ground.colour, ground.shadow - ground.colour], axis=1)
    parts = (ground.pixels - ground.colour) @ np.linalg.pinv(basis).T
    return np.clip(parts[..., 0], -0.5, 1.5).astype(np.float32)


def _fit(colour: str, opacity: Array, peak: tuple[int, int], others: list[tuple[int, int]]) -> Fit:
    """Try every template at every place around a peak.

    Pixels that are nearer to another peak do not count, nor do those beyond the edge.
    """
    side, half = len(opacity), WINDOW // 2
    rows, columns = np.indices(opacity.shape)
    distance = (columns - peak[0]) ** 2 + (rows - peak[1]) ** 2
    weight = np.ones_like(opacity)
    for column, row in others:
        weight[(columns - column) ** 2 + (rows - row) ** 2 < distance] = 0
    margin = half + REACH
    padded, trust = np.pad(opacity * weight, margin), np.pad(weight, margin)
    places, values, weights = [], [], []
    for row in range(peak[1] - REACH, peak[1] + REACH + 1):
        for column in range(peak[0] - REACH, peak[0] + REACH + 1):
            if not (-1 <= row <= side and -1 <= column <= side):
                continue
            window = (slice(row + REACH, row + REACH + WINDOW), slice(column + REACH, column + REACH + WINDOW))
            values.append(padded[window].ravel())
            weights.append(trust[window].ravel())
            places.append((column + 0.5, row + 0.5))
    shapes = window_templates()
    L, P, T = shapes.shape[:3]
    flat = shapes.reshape(L * P * T, -1).T
    value_KW, weight_KW = np.stack(values), np.stack(weights)
    gains = 2 * value_KW @ flat - weight_KW @ flat**2  # sum of w a^2 - w (a - t)^2
    return Fit(colour, gains.reshape(len(places), L, P, T).transpose(1, 0, 2, 3), places)


def _with_shadows(ground: Ground, placed: list[Placed], blur: float) -> list[Found]:
    """Which of the four shadows fits each object best, the others' shadows held at their best so far."""
    side = len(ground.pixels)
    soft = (lambda mask: gaussian_filter(mask, blur)) if blur else (lambda mask: mask)
    bodies = [soft(object_mask(thing.kind, thing.x, thing.y, side)) for thing in placed]
    seen = 1 - np.clip(np.sum(bodies, axis=0), 0, 1)  # share of a pixel in which background can be seen
    down = ground.shadow - ground.colour
    darkness = (ground.pixels - ground.colour) @ down / max(float(down @ down), 1e-6)
    weight = (seen > 0.7).astype(np.float32)
    options = {"missing": None, **SHADOW_OFFSET}
    masks = [
        {
            name: np.zeros((side, side), np.float32)
            if offset is None
            else soft(object_mask(thing.kind, thing.x + offset[0], thing.y + offset[1], side))
            for name, offset in options.items()
        }
        for thing in placed
    ]
    chosen = ["ok"] * len(placed)
    for _ in range(2):
        for n in range(len(placed)):
            rest = np.max(
                [masks[m][chosen[m]] for m in range(len(placed)) if m != n] or [np.zeros_like(weight)], axis=0
            )
            chosen[n] = min(
                options,
                key=lambda name: float((weight * (darkness - np.maximum(rest, masks[n][name]) * seen) ** 2).sum()),
            )
    return [Found(t.colour, t.kind, t.x, t.y, shadow) for t, shadow in zip(placed, chosen, strict=True)]
