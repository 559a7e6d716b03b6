"""One preprocessing for pictures of every kind, differentiable to the pixels, without torchvision.

Everything becomes a float tensor (3, H, W) in [0, 1]; what follows (here and in `layouts`) are torch operations, so that
`score(images)` and `__call__(pixels)` cannot disagree.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zreward.common.errors import InputError
from zreward.data.images import as_list, check_size, open_image

Resolution = tuple[int, int]  # height, width
DEFAULT_PATCHES = 4096  # merged patches of an image, where no limit is set
MAX_TARGET = 4096 * 4096  # pixels of an image, whatever the limit


@dataclass(frozen=True)
class ResolutionPolicy:
    """How large an image is when the model sees it; the aspect ratio is kept up to rounding to whole merged patches.

    `longest_side` (pixels) or `pixel_budget` (pixels in total): one of the two or neither; images below the limit are not
    enlarged except to at least one merged patch a side. With neither, an image becomes at most DEFAULT_PATCHES merged patches
    (2048 x 2048 pixels where they are 32 pixels wide). No policy allows more than MAX_TARGET pixels.
    """

    longest_side: int | None = None
    pixel_budget: int | None = None

    def __post_init__(self) -> None:
        if self.longest_side and self.pixel_budget:
            raise InputError("resolution: longest_side and pixel_budget were both given; choose one")
        for key, value in asdict(self).items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9):
                raise InputError(
                    f"resolution: {key} is {value!r}, expected a whole number of pixels, 1 to 1,000,000,000"
                )

    @property
    def is_limited(self) -> bool:
        return bool(self.longest_side or self.pixel_budget)

    def most_pixels(self, multiple: int) -> int:
        """The most pixels that `target` gives."""
        wanted = self.pixel_budget or (self.longest_side or 0) ** 2 or DEFAULT_PATCHES * multiple**2
        return min(wanted, MAX_TARGET)

    def target(self, size: Resolution, multiple: int) -> Resolution:
        """The (height, width) to resize to: multiples of `multiple` pixels, aspect kept, always within the limit.

        A very narrow image, whose short side cannot shrink below one multiple, loses length instead. InputError for a limit that
        leaves no room for one merged patch.
        """
        height, width = size
        most = self.most_pixels(multiple)
        most_side = (self.longest_side or MAX_TARGET) // multiple * multiple
        if most < multiple**2 or not most_side:
            raise InputError(
                f"resolution: {self.longest_side or self.pixel_budget} pixels leave no room for one patch of this model; "
                f"expected a longest_side of {multiple} or more, or a pixel_budget of {multiple**2} or more"
            )
        shrink = min(1.0, math.sqrt(most / (height * width)))
        if self.longest_side:
            shrink = min(shrink, self.longest_side / max(height, width))
        # Where a limit shrinks, round down so that it holds; elsewhere to the nearest, if that is within it.
        sides = [_whole(side * shrink, multiple, math.floor if shrink < 1 else round) for side in size]
        if sides[0] * sides[1] > most or max(sides) > most_side:
            sides = [_whole(side * shrink, multiple, math.floor) for side in size]
        short = min(sides)
        longest = min(most_side, most // short // multiple * multiple)
        return min(sides[0], longest), min(sides[1], longest)


def _whole(side: float, multiple: int, rounded: Callable[[float], int]) -> int:
    """The side in whole multiples, one at the least."""
    return max(multiple, int(rounded(side / multiple)) * multiple)


def to_pixels(image: Any) -> Tensor:
    """Any picture -> float tensor (3, H, W) in [0, 1]; InputError for what is none. Nothing is rescaled by guessing.

    Taken are all that `open_image` opens, and arrays and tensors: uint8, or floats in [0, 1] (halves become float32); (H, W),
    or with 1 to 4 channels (grey, grey and alpha, RGB, RGBA) last or first. Where both fit, arrays are read as (H, W, 3) and
    tensors as (3, H, W); other such shapes are refused. Alpha is laid on white. Differentiable for float tensors.
    """
    return as_floats(to_tensor(image))


def to_tensor(image: Any) -> Tensor:
    """`to_pixels` before bytes become floats: (3, H, W), uint8 for what has 8 bits a channel, else floats in [0, 1]."""
    if isinstance(image, Tensor):
        if image.layout != torch.strided or image.is_meta:
            raise InputError(
                f"image tensor is {'without data' if image.is_meta else image.layout}; expected a dense one"
            )
        return _of_array(image, _channels_at(tuple(image.shape), "tensor", last=False))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 and (not np.issubdtype(image.dtype, np.floating) or image.dtype.itemsize > 8):
            raise InputError(f"image array is of {image.dtype}; expected uint8, or floats in [0, 1]")
        at = _channels_at(image.shape, "array", last=True)
        native = np.require(image, image.dtype.newbyteorder("="), ["C", "W"])
        return _of_array(torch.from_numpy(native), at)
    return _of_picture(open_image(image))


def as_floats(pixels: Tensor) -> Tensor:
    """Bytes divided by 255, in float32; floats as they are."""
    if pixels.dtype is not torch.uint8:
        return pixels
    # By a tensor on the same device: a GPU multiplies by the rounded inverse of a plain number, and the last bit differs.
    return pixels.to(torch.float32).div_(torch.full((), 255.0, device=pixels.device))


def to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB, rounded to 8 bits."""
    return Image.fromarray((pixels.detach().cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def png_uri(pixels: Tensor, compress_level: int = 6) -> str:
    """(3, H, W) in [0, 1] -> a PNG inside a data URI, rounded to 8 bits. `compress_level`: 0 (fast) to 9 (small)."""
    file = io.BytesIO()
    to_image(pixels).save(file, "PNG", compress_level=compress_level)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def as_pictures(images: Any) -> list[Any]:
    """A list of pictures: as it is, of a batch (N, H, W, C) or (N, C, H, W), or of one picture that came alone."""
    if not isinstance(images, Tensor | np.ndarray):
        return as_list(images)
    if images.ndim == 4:
        return list(images)
    return [images]


def _of_array(pixels: Tensor, at: int | None) -> Tensor:
    """Pixels whose channels are dimension `at`, or that have none."""
    pixels = pixels[None] if at is None else pixels.movedim(at, 0)
    if pixels.dtype == torch.uint8:
        if len(pixels) == 3:
            return pixels
        picture = pixels.movedim(0, -1).cpu().numpy()
        return _of_picture(open_image(Image.fromarray(picture[..., 0] if len(pixels) == 1 else picture))).to(
            pixels.device
        )
    pixels = _in_range(pixels, ", or uint8")
    if len(pixels) in (2, 4):
        pixels = pixels[:-1] * pixels[-1:] + (1 - pixels[-1:])
    return pixels.expand(3, -1, -1)


def _channels_at(shape: tuple[int, ...], what: str, last: bool) -> int | None:
    """The dimension that holds the channels; None for (H, W). InputError also for a picture that is too large."""
    wanted, other = (2, 0) if last else (0, 2)
    fits = [at for at in (wanted, other) if len(shape) == 3 and 1 <= shape[at] <= 4]
    if len(shape) != 2 and not (fits and (shape[wanted] == 3 or len(fits) == 1)):
        raise InputError(
            f"image {what} has shape {shape}; expected (H, W), (H, W, C) or (C, H, W) with C from 1 to 4, read in one way only"
        )
    at = fits[0] if fits else None
    height, width = (size for dimension, size in enumerate(shape) if dimension != at)
    check_size(width, height)
    return at


def _of_picture(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def check_pixels(pixels: Tensor) -> Tensor:
    """A float tensor (..., 3, H, W) in [0, 1], in float32 or float64; InputError says what came instead.

    Half-precision pixels are computed with in float32, and their gradients come back in half precision.
    """
    if pixels.ndim < 3 or pixels.shape[-3] != 3:
        raise InputError(f"pixels have shape {tuple(pixels.shape)}; expected (N, 3, H, W) or (3, H, W), RGB")
    check_size(pixels.shape[-1], pixels.shape[-2])
    return _in_range(pixels, " (divide bytes by 255; `score` takes them as they are)")


def _in_range(pixels: Tensor, advice: str = "") -> Tensor:
    """Float pixels in [0, 1], in float32 or float64."""
    if not pixels.is_floating_point():
        raise InputError(f"pixels are {pixels.dtype}; expected floats in [0, 1]{advice}")
    if pixels.element_size() < 4:
        pixels = pixels.float()
    if not pixels.numel():
        raise InputError(f"pixels have shape {tuple(pixels.shape)}; expected at least one picture")
    low, high = (float(v) for v in torch.aminmax(pixels.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("pixels contain NaN or infinity")
    if low < -1e-4 or high > 1 + 1e-4:
        raise InputError(
            f"pixels range over [{low:.3g}, {high:.3g}]; expected [0, 1] (divide by 255, or undo normalisation)"
        )
    return pixels


def resize(pixels: Tensor, target: Resolution) -> Tensor:
    """(3, H, W) -> (3, *target) by antialiased bicubic interpolation, clamped to [0, 1]; the same object when sizes agree."""
    if tuple(pixels.shape[-2:]) == target:
        return pixels
    resized = F.interpolate(pixels[None], size=target, mode="bicubic", antialias=True, align_corners=False)[0]
    return resized.clamp(0, 1)
