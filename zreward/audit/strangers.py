"""Pictures unlike any data: the data's own pixels shuffled, noise, and drawings of a program."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def shuffled(images: list[Image.Image], seed: int) -> list[Image.Image]:
    """The same colours in a random order."""
    found = []
    for n, image in enumerate(images):
        pixels = np.asarray(image).reshape(-1, 3)
        mixed = np.random.default_rng((seed, n)).permutation(pixels)
        found.append(Image.fromarray(mixed.reshape(image.height, image.width, 3)))
    return found


def static(images: list[Image.Image], seed: int) -> list[Image.Image]:
    """Uniform noise of the pictures' sizes."""
    return [
        Image.fromarray(
            np.random.default_rng((seed, n)).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
        )
        for n, image in enumerate(images)
    ]


def drawn(images: list[Image.Image], seed: int) -> list[Image.Image]:
    """Lines and boxes on white, as on a page with a diagram."""
    found = []
    for n, image in enumerate(images):
        rng, page = np.random.default_rng((seed, n)), Image.new("RGB", image.size, "white")
        pen, size = ImageDraw.Draw(page), np.array(image.size)
        for _ in range(12):
            (x, y), (u, v) = (rng.random((2, 2)) * size).round().astype(int).tolist()
            if rng.random() < 0.5:
                pen.line((x, y, u, v), "black")
            else:
                pen.rectangle((min(x, u), min(y, v), max(x, u), max(y, v)), outline="black")
        found.append(page)
    return found


STRANGERS = {"shuffled pixels": shuffled, "noise": static, "drawn page": drawn}
