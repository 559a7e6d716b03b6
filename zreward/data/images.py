"""Opening images: every kind of source becomes a plain RGB picture as a viewer shows it, or a clear InputError.

What the pixels are is said in `zreward.data.colour`; how files are freed of their metadata, in `zreward.data.containers`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from zreward.common.errors import InputError, shown
from zreward.data.colour import to_srgb
from zreward.data.containers import DamagedError, orientation, take_apart
from zreward.data.fields import plain_text
from zreward.data.packed import PackedImage

MAX_PIXELS = 8192 * 8192  # larger headers are refused before any pixel is decoded (decompression bombs)
MAX_BYTES = 1 << 30  # of an encoded image
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")  # raster only: EPS would start a program
_COMMON = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_XMP = {"xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # where Pillow looks for an orientation besides
_LOCKS = [threading.Lock() for _ in range(64)]  # by identity: Pillow's images and files bear one thread at a time

_IS_URL = "is a URL; images are not fetched, download it and give its path"

ImageSource = str | bytes | PackedImage | Image.Image


def open_image(image: Any, max_pixels: int | None = None) -> Image.Image:
    """A new, fully decoded 8-bit sRGB image on white, upright by its EXIF orientation, the first frame of an animation.

    `image` is a path, encoded bytes (also bytearray, memoryview), a file opened in binary mode (read from its start), a PIL
    image, or a mapping {bytes, path} as Hugging Face data sets hold it. Any number of threads may open the same object.
    InputError: missing, truncated, not an image, more than `max_pixels` by its header (default MAX_PIXELS), pixels without a
    known range (modes I and F), or a URL (nothing is fetched).
    """
    image = held_image(image)
    what, most = describe(image), max_pixels or MAX_PIXELS
    try:
        if isinstance(image, Image.Image):
            return _of_pil(image, most)
        return _of_bytes(encoded(image), most)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def encoded(image: Any) -> bytes:
    """The bytes of an encoded image: of a path, a file, bytes or {bytes, path}. InputError as `open_image`, unnamed."""
    image = held_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
    elif isinstance(image, PackedImage):
        if image.size > MAX_BYTES:
            raise InputError(f"{image.size:,} bytes; expected an image of at most {MAX_BYTES:,}")
        content = image.read()
    elif hasattr(image, "read"):
        content = _of_file(image)
    else:
        content = _of_path(os.fspath(image))
    if not content:
        raise InputError("empty, expected an encoded image such as PNG or JPEG")
    return content


def held_image(image: Any) -> Any:
    """The bytes or the path that a mapping {bytes, path} holds; anything else as it is."""
    if isinstance(image, bytes | str) or not isinstance(image, Mapping):
        return image
    if not image.keys() <= {"bytes", "path"}:
        unknown = sorted(str(key) for key in image.keys() - {"bytes", "path"})
        raise InputError(f"image has the fields {unknown}, expected a mapping {{bytes, path}}")
    content, path = image.get("bytes"), image.get("path")
    if content is None and path is None:
        raise InputError("image has neither bytes nor a path")
    if content is not None and not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"image is a mapping with bytes of type {type(content).__name__}, expected a path or bytes")
    if content is None and not isinstance(path, str | os.PathLike):
        raise InputError(f"image is a mapping with a path of type {type(path).__name__}, expected a path or bytes")
    return path if content is None else content


def as_source(image: Any) -> ImageSource:
    """How a record keeps a picture: a path, bytes or a PIL image; an open file or {bytes, path} becomes what it holds.

    InputError for anything else. The picture is not opened.
    """
    image = held_image(image)
    if isinstance(image, PackedImage):
        return image
    if isinstance(image, bytearray | memoryview) or hasattr(image, "read"):
        return encoded(image)
    if isinstance(image, str | os.PathLike):
        return plain_text(os.fspath(image), "image")
    if not isinstance(image, bytes | Image.Image):
        raise InputError(f"image is {shown(image)}, expected a path, encoded bytes or a PIL image")
    return image


def as_list(images: Any) -> list[Any]:
    """The pictures of a list, or of any other iterable; a single picture, however it is held, is a list of one."""
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | PackedImage | Image.Image | Mapping):
        return [images]
    if hasattr(images, "read"):
        return [images]
    if not isinstance(images, Iterable):
        raise InputError(f"images is a {type(images).__name__}; expected a picture, or a list of them")
    return list(images)


def check_path(path: str) -> None:
    """InputError unless `path` names a regular file; cheap, nothing is decoded."""
    problem = _path_problem(path)
    if problem:
        raise InputError(f"{describe(path)}: {problem}")


def refuse_url(path: str) -> None:
    """InputError for a URL in place of a path: nothing is fetched."""
    if _URL.match(path):
        raise InputError(f"{describe(path)}: {_IS_URL}")


def describe(image: Any) -> str:
    """How messages name an image."""
    if isinstance(image, Image.Image):
        return f"PIL image ({image.width} x {image.height}, {image.mode})"
    if isinstance(image, bytes | bytearray | memoryview):
        return f"image of {len(image):,} bytes"
    if isinstance(image, (str, os.PathLike, PackedImage)):
        name = str(image)
        return name if len(name) <= 200 else f"{name[:200]}..."
    if hasattr(image, "read"):
        return f"image in a {type(image).__name__}"
    raise InputError(
        f"image is of type {type(image).__name__}, expected a path, encoded bytes, an open file or a PIL image"
    )


def pixel_hash(image: Any) -> str:
    """sha256 over size and RGB pixels: equal for the same picture under another name or lossless format."""
    return _hash_of(open_image(image)).hex()


def checked_digests(image: str | bytes | PackedImage) -> tuple[bytes, bytes]:
    """SHA-256 of an image's encoded bytes, and its `pixel_hash`; it is read and decoded once. InputError as `open_image`."""
    try:
        content = encoded(image)
        return hashlib.sha256(content).digest(), _hash_of(_of_bytes(content, MAX_PIXELS))
    except InputError as error:
        raise InputError(f"{describe(image)}: {error}") from None


def _hash_of(picture: Image.Image) -> bytes:
    digest = hashlib.sha256(f"{picture.width}x{picture.height}:".encode())
    digest.update(picture.tobytes())
    return digest.digest()


def pixel_hashes(images: Iterable[Any]) -> Iterator[str]:
    """`pixel_hash` of each, in order, decoded by a few threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(pixel_hash, images)


def suffixes() -> tuple[str, ...]:
    """The suffixes, in small letters, of files that `open_image` can read, the common ones first."""
    known = [suffix for suffix, name in Image.registered_extensions().items() if name in _formats()]
    return tuple(dict.fromkeys([suffix for suffix in _COMMON if suffix in known] + sorted(known)))


def check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    """InputError for a picture without pixels, or with more than `most`; sides in pixels."""
    if width * height > most:
        raise InputError(f"{width} x {height} is more than {most:,} pixels; scale it down")
    if width * height == 0:
        raise InputError("has no pixels")


def image_format(content: bytes) -> str:
    """The format of an encoded image that `open_image` opens, as Pillow calls it: PNG, JPEG, ..."""
    return str(_opened(take_apart(content).pixels or content).format)


def _of_bytes(content: bytes, most: int) -> Image.Image:
    try:
        parts = take_apart(content)
    except DamagedError as error:
        raise InputError(f"broken or truncated image: {error}; get the file again") from None
    with _opened(parts.pixels or content) as picture:
        check_size(picture.width, picture.height, most)
        _decode(picture)
        if parts.pixels is not None:
            picture.info.update(exif=parts.exif, icc_profile=parts.profile)
        exif = picture.info.get("exif")
        return _shown(picture, orientation(exif) if isinstance(exif, bytes) else 1)


def _opened(content: bytes) -> Image.Image:
    """The header read, no pixel decoded."""
    try:
        return Image.open(io.BytesIO(content), formats=_formats())
    except Image.UnidentifiedImageError:
        raise InputError(f"not an image that can be read; expected one of {', '.join(_formats())}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"more than {MAX_PIXELS:,} pixels; scale the image down first") from None
    except Exception as error:  # Pillow's parsers let many kinds of error out of a broken header
        raise InputError(f"broken image header: {error}") from error


def _of_pil(image: Image.Image, most: int) -> Image.Image:
    check_size(image.width, image.height, most)
    with _lock(image):
        _decode(image)
        picture, turned = image.copy(), _orientation(image)
        picture.format = image.format
    return _shown(picture, turned)


def _orientation(image: Image.Image) -> int:
    """The orientation in a loaded PIL image's EXIF block, or as it was changed in memory; XMP does not count, nor in files."""
    if hasattr(image, "tag_v2"):  # TIFF: Pillow has turned it
        return 1
    exif = image.info.get("exif")
    stored = orientation(exif) if isinstance(exif, bytes) else 1
    if stored == 1 and not _XMP.isdisjoint(image.info):
        return 1
    try:
        return image.getexif().get(0x0112, stored)
    except Exception:  # Pillow's parser lets many kinds of error out of a broken block
        return stored


def _decode(image: Image.Image) -> None:
    """Decode its pixels."""
    try:
        try:
            image.load()
        except (ValueError, SyntaxError, TypeError, KeyError, struct.error):
            if getattr(image, "tile", None) != []:
                raise
            image.load()  # the pixels were whole: only what follows them was not
    except Exception as error:  # each of Pillow's decoders has its own errors for broken data
        raise InputError(f"broken or truncated image: {error}; get the file again") from error


def _shown(picture: Image.Image, turned: int) -> Image.Image:
    """Decoded pixels in sRGB, upright."""
    profile, upright = picture.info.get("icc_profile"), _UPRIGHT.get(turned)
    try:
        picture = to_srgb(picture, profile if isinstance(profile, bytes) else None)
    except InputError:
        raise
    except Exception as error:  # a palette or a mode that Pillow cannot convert
        raise InputError(f"pixels that cannot be converted to RGB: {error}") from error
    return picture.transpose(upright) if upright is not None else picture


def _of_path(path: str | bytes) -> bytes:
    path = os.fsdecode(path)
    problem = _path_problem(path)
    if problem:
        raise InputError(problem)
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
            if state.st_size > MAX_BYTES:
                raise InputError(f"{state.st_size:,} bytes; expected an image of at most {MAX_BYTES:,}")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error


def _path_problem(path: str) -> str:
    if _URL.match(path):
        return _IS_URL
    if os.path.isdir(path):
        return "is a folder, expected an image file"
    return (
        "" if os.path.isfile(path) else "no such image file; check the path"
    )  # a regular one: a pipe would wait for ever


def _of_file(file: Any) -> bytes:
    """All that a binary file holds, from its start where it can be wound back; it is left where it stood."""
    with _lock(file):
        try:
            seekable = file.seekable()
            place = file.tell() if seekable else 0
            if seekable:
                file.seek(0)
            content = file.read(MAX_BYTES + 1)
            if seekable:
                file.seek(place)
        except (OSError, ValueError, AttributeError) as error:  # closed, or not made for reading
            raise InputError(f"cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise InputError(f"read as {type(content).__name__}; expected a file opened in binary mode ('rb')")
    if len(content) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} bytes")
    return content


def _lock(thing: Any) -> threading.Lock:
    return _LOCKS[id(thing) // 16 % len(_LOCKS)]


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
