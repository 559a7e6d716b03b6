"""Decoded pixels of any Pillow mode as a person sees them: 8-bit sRGB on white.

The rules: an embedded colour profile is followed where it fits the pixels and can be read, else the pixels count as sRGB;
transparency is laid on white; 16 bits keep their upper eight; 32-bit integers and floats have no known range and are refused.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from zreward.common.errors import InputError
from zreward.data.containers import MAX_PROFILE

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # mode -> the colour space of its profiles
_DEVICES = ("scnr", "mntr", "prtr", "spac")  # profiles of other classes do not describe pictures


def to_srgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """A new 8-bit RGB image without any metadata. `image` is loaded; InputError for modes I and F."""
    if image.mode == "RGB" and not profile and "transparency" not in image.info:  # most are
        rgb = image.copy()
        rgb.info.clear()
        return rgb
    image, alpha = _split(_eight_bits(image))
    rgb = _to_rgb(image, profile)
    if alpha is not None:
        rgb.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
    rgb.info.clear()
    return rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image)
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("I", "F"):
        raise InputError(f"pixels of mode {image.mode!r} have no known range; save it with 8 bits a channel")
    return image


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours and transparency, which a profile does not touch."""
    if "transparency" in image.info and not _is_transparency(image):
        image = image.copy()
        del image.info["transparency"]
    if not image.has_transparency_data:
        return image, None
    if image.mode == "1" and image.info["transparency"] == 1:
        image = image.copy()
        image.info["transparency"] = 255  # Pillow compares it with the decoded value
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    return image.convert(image.mode[:-1]), image.getchannel("A")


def _is_transparency(image: Image.Image) -> bool:
    """Whether the image's note of what is transparent is one: a PNG's text of that name lands in the same place."""
    value = image.info["transparency"]
    if image.mode == "RGB":
        return isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, int) for part in value)
    if image.mode in ("1", "L"):
        return isinstance(value, int)
    if isinstance(value, bytes):
        return image.mode == "P" and len(value) <= 256
    return image.mode == "P" and isinstance(value, int) and 0 <= value <= 255


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in _SPACES:
        image = image.convert("RGB")
    if profile and len(profile) <= MAX_PROFILE:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = source.profile.xcolor_space == _SPACES[image.mode] and source.profile.device_class in _DEVICES
            if fits:
                return _transformed(image, source)
        except (OSError, ImageCms.PyCMSError):
            pass  # unreadable: metadata does not decide whether pixels are readable
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return image.convert("RGB")


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # Made anew each time: profiles and transforms are not shared between threads.
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    intent = ImageCms.Intent.PERCEPTUAL
    made = ImageCms.profileToProfile(image, source, target, renderingIntent=intent, outputMode="RGB")
    assert made is not None  # it is None in place only
    return made
