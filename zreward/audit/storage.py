"""The same picture in another file: each edit takes an RGB picture and returns the bytes of a file.

`STORED` keep the pixels: a program that opens pictures rightly sees no difference. `HARMLESS` change pixels as programs
do on the way, so little that people's scores stay.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

from PIL import Image, ImageCms

Edit = Callable[[Image.Image], bytes]
_ORIENTATION = 0x0112  # the EXIF tag
CROPPED = 0.03
"""Share of the longer side that a small crop takes from each edge; one pixel at least."""


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(quality: int) -> Edit:
    return lambda image: _file(image, "JPEG", quality=quality)


def through(share: float) -> Edit:
    """Resized by a factor, and back to its own size."""

    def edit(image: Image.Image) -> bytes:
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        return _file(image.resize(size, Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.LANCZOS))

    return edit


def cropped(image: Image.Image) -> bytes:
    """Every edge cut off by `CROPPED`."""
    cut = max(1, round(CROPPED * max(image.size)))
    if min(image.size) <= 2 * cut:
        return _file(image)
    return _file(image.crop((cut, cut, image.width - cut, image.height - cut)))


def profiled(image: Image.Image) -> bytes:
    """Stored as CIELAB with its colour profile: other numbers, the same colours."""
    lab, profile = _to_lab()
    converted = ImageCms.applyTransform(image, lab)
    assert converted is not None
    return _file(converted, "TIFF", icc_profile=profile)


def transparent(image: Image.Image) -> bytes:
    """With an alpha channel that hides nothing."""
    return _file(image.convert("RGBA"))


def turned(image: Image.Image) -> bytes:
    """Stored on its side, with the EXIF orientation that turns it upright."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    return _file(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


@cache
def _to_lab() -> tuple[Any, bytes]:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB", 5000)
    transform = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    return transform, ImageCms.ImageCmsProfile(lab).tobytes()


STORED: dict[str, Edit] = {
    "alpha channel": transparent,
    "EXIF orientation": turned,
}
HARMLESS: dict[str, Edit] = {
    "colour profile (CIELAB)": profiled,
    "JPEG, quality 95": jpeg(95),
    "JPEG, quality 85": jpeg(85),
    "resized to 90 % and back": through(0.9),
    "resized to 200 % and back": through(2.0),
    "cropped by 3 %": cropped,
}
