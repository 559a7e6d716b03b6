"""Images of requests: base64 or bytes to RGB, within the server's limits."""

from __future__ import annotations

import base64
import binascii

from PIL import Image

from zreward.data.images import open_image
from zreward.errors import InputError


def from_base64(text: str, max_pixels: int, what: str) -> Image.Image:
    """InputError for what is no base64, no image, or too large; URLs are not fetched."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    elif "://" in text[:16]:
        raise InputError(f"{what} is a URL; images are not fetched, send their base64")
    try:
        encoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what} is not base64; expected that of a PNG or JPEG file") from None
    return from_bytes(encoded, max_pixels, what)


def from_bytes(encoded: bytes, max_pixels: int, what: str) -> Image.Image:
    """RGB. InputError as `open_image` raises it; the size is read from the header, before anything is decoded."""
    try:
        return open_image(encoded, max_pixels)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
