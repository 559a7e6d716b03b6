"""Opening images: a path, encoded bytes or a PIL image becomes a plain RGB picture, or a clear InputError."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from zreward.errors import InputError

MAX_PIXELS = 8192 * 8192  # larger headers are refused before any pixel is decoded (decompression bombs)
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")  # raster only: EPS would start a program
_COMMON = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)

ImageSource = str | bytes | Image.Image


def open_image(image: ImageSource | os.PathLike[str], max_pixels: int | None = None) -> Image.Image:
    """A new, fully decoded 8-bit RGB image, upright by its EXIF orientation.

    Transparency is laid on white, the first frame of an animation counts, 16-bit grey keeps its upper eight bits.
    InputError: missing, truncated, not an image, more than `max_pixels` by its header (default MAX_PIXELS), or a URL
    (nothing is fetched).
    """
    what, max_pixels = describe(image), max_pixels or MAX_PIXELS
    if isinstance(image, Image.Image):
        return _rgb(image, what, max_pixels)
    if isinstance(image, bytes):
        file: io.BytesIO | str = io.BytesIO(image)
        if not image:
            raise InputError(f"{what}: empty, expected an encoded image such as PNG or JPEG")
    else:
        file = os.fspath(image)
        check_path(file)
    try:
        opened = Image.open(file, formats=_formats())
    except Image.UnidentifiedImageError:
        raise InputError(f"{what}: not an image that can be read; expected one of {', '.join(_formats())}") from None
    except OSError as error:
        raise InputError(f"{what}: cannot be read: {error.strerror or error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{what}: more than {MAX_PIXELS:,} pixels; scale the image down first") from None
    except Exception as error:  # Pillow's parsers let many kinds of error out of a broken header
        raise InputError(f"{what}: broken image header: {error}") from error
    with opened:
        return _rgb(opened, what, max_pixels)


def check_path(path: str) -> None:
    """InputError unless `path` names a regular file; cheap, nothing is decoded."""
    refuse_url(path)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder, expected an image file")
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such image file")


def refuse_url(path: str) -> None:
    if _URL.match(path):
        raise InputError(f"{describe(path)}: is a URL; images are not fetched, download it and give its path")


def describe(image: ImageSource | os.PathLike[str]) -> str:
    """How messages name an image."""
    if isinstance(image, Image.Image):
        return f"PIL image ({image.width} x {image.height}, {image.mode})"
    if isinstance(image, bytes):
        return f"image of {len(image):,} bytes"
    if isinstance(image, (str, os.PathLike)):
        name = os.fspath(image)
        return name if len(name) <= 200 else f"{name[:200]}..."
    raise InputError(f"image is a {type(image).__name__}, expected a path, encoded bytes or a PIL image")


def pixel_hash(image: ImageSource) -> str:
    """sha256 over size and RGB pixels: equal for the same picture under another name or lossless format."""
    picture = open_image(image)
    digest = hashlib.sha256(f"{picture.width}x{picture.height}:".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def pixel_hashes(images: Iterable[ImageSource]) -> Iterator[str]:
    """`pixel_hash` of each, in order, decoded by a few threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(pixel_hash, images)


def suffixes() -> tuple[str, ...]:
    """The suffixes, in small letters, of files that `open_image` can read, the common ones first."""
    known = [suffix for suffix, name in Image.registered_extensions().items() if name in _formats()]
    return tuple(dict.fromkeys([suffix for suffix in _COMMON if suffix in known] + sorted(known)))


def _rgb(image: Image.Image, what: str, max_pixels: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        raise InputError(f"{what}: {image.width} x {image.height} is more than {max_pixels:,} pixels; scale it down")
    if image.width * image.height == 0:
        raise InputError(f"{what}: has no pixels")
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        elif image.mode in ("I", "F"):
            raise InputError(
                f"{what}: pixels of mode {image.mode!r} have no known range; save it with 8 bits a channel"
            )
        return image.convert("RGB")  # always a copy: the caller's image and its file stay untouched
    except InputError:
        raise
    except Exception as error:  # each of Pillow's decoders has its own errors for broken data
        raise InputError(f"{what}: broken or truncated image: {error}") from error


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
