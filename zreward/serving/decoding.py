"""Images of requests: base64 or bytes, measured by their header first, opened later."""

from __future__ import annotations

import binascii
from io import BytesIO

from PIL import Image

from zreward.common.errors import InputError
from zreward.data.containers import DamagedError, take_apart
from zreward.data.images import open_image
from zreward.serving.pieces import in_pieces

# A progressive JPEG has about ten scans; each runs over all pixels, so that a small file with thousands takes minutes.
_MOST_SCANS = 64
# Formats whose decoders are C. Others (run-length BMP, plain-text PPM) are slow Python that would hold up everybody.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "TIFF", "BMP")


def from_base64(text: str, what: str) -> bytes:
    """An encoded image. InputError for what is no base64; URLs are not fetched."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    elif "://" in text[:16]:
        raise InputError(f"{what} is a URL; images are not fetched, send their base64")
    try:
        if "=" in text[:-2]:
            raise ValueError("padding before the end")
        return b"".join(in_pieces(lambda piece: binascii.a2b_base64(piece, strict_mode=True), text))
    except (binascii.Error, ValueError):
        raise InputError(
            f"{what} is not base64 of a PNG or JPEG file; send it padded and without line ends (base64 -w0)"
        ) from None


def measure(encoded: bytes, what: str) -> tuple[int, int]:
    """(height, width) by its header; nothing is decoded. InputError for what is no image, or takes minutes to decode."""
    if not encoded:
        raise InputError(f"{what}: empty, expected an encoded image such as PNG or JPEG")
    Image.init()
    try:
        bare = take_apart(encoded).pixels or encoded  # no metadata decides whether it is read
        with Image.open(BytesIO(bare), formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            kind, size = image.format, image.size
            decoders = {tile[0] for tile in image.tile}
    except DamagedError as error:
        raise InputError(f"{what}: broken or truncated image: {error}; send the whole file") from None
    except Image.DecompressionBombError:
        raise InputError(f"{what}: more pixels than any limit allows; scale it down") from None
    except Exception:  # each of Pillow's parsers has its own errors for broken headers
        raise InputError(f"{what}: not an image that can be read; expected one of {', '.join(_FORMATS)}") from None
    if kind in ("JPEG", "MPO", "TIFF") and encoded.count(b"\xff\xda") > _MOST_SCANS:
        raise InputError(f"{what}: a JPEG of more than {_MOST_SCANS} scans; save it again as an ordinary one")
    if "bmp_rle" in decoders:
        raise InputError(f"{what}: a run-length encoded BMP; save it as PNG")
    return size[1], size[0]


def from_bytes(encoded: bytes, max_pixels: int, what: str) -> Image.Image:
    """RGB. InputError as `open_image` raises it."""
    try:
        return open_image(encoded, max_pixels)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
