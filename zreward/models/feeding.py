"""How pictures get from files to the vision tower.

decode    any picture -> what is kept of it: 8-bit pixels as the file has them, or floats at the size that the model sees
prepare   what was kept -> float pixels at that size, on the model's device
patches   several of them -> normalised patches, on the model's device

Floats go through the very functions that a gradient to the pixels goes through (`ImageLayout.fit`, `.patchify`). On a GPU bytes
are moved, a quarter of the floats' size (an eighth of the patches', which repeat a frame), and the GPU does the rest. On a
CPU, threads that open pictures resize them too, and a batch's patches are made by several threads.

With an image cache (`models.image_cache`), `decode` gives what a frozen tower made of the picture, which passes all this by.

A picture is kept as bytes where these take no more memory than floats of its final size: if it has that size already, or, on a
GPU, at most four times as many pixels. A larger one is resized when it is opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from zreward.models.inputs import to_device
from zreward.models.layouts import Grid, ImageLayout
from zreward.models.pixels import ResolutionPolicy, as_floats, to_tensor

_BYTES = 4  # of a float32
_WORTH_THREADS = 1 << 20  # numbers in a batch's pictures; below, threads cost more than they save


def is_features(decoded: Tensor) -> bool:
    """Whether it is what an image cache holds of a picture, (T, C) for the projector, and not pixels (3, H, W)."""
    return decoded.ndim == 2


def decode(image: Any, layout: ImageLayout, policy: ResolutionPolicy, device: torch.device) -> Tensor:
    """Any picture -> uint8 as it came (3, H, W), or floats in [0, 1] at the size that the model sees, on the host.

    Args:
        image: what `to_pixels` takes.
        layout: the model's.
        policy: the model's limit of image sizes.
        device: where the model is.
    """
    pixels = to_tensor(image)
    if pixels.dtype is torch.uint8:
        size = (pixels.shape[-2], pixels.shape[-1])
        target = layout.fitted(size, policy)
        if size == target or (device.type != "cpu" and math.prod(size) <= _BYTES * math.prod(target)):
            return pixels
    return layout.fit(as_floats(pixels), policy)


def prepare(decoded: Tensor, layout: ImageLayout, policy: ResolutionPolicy, device: torch.device) -> Tensor:
    """What `decode` kept, or fitted pixels of any origin -> floats in [0, 1] (3, H, W) on `device`, as `patchify` takes them."""
    pixels = to_device(decoded, device)
    return layout.fit(as_floats(pixels), policy) if pixels.dtype is torch.uint8 else pixels


def patches(
    images: Sequence[Tensor], layout: ImageLayout, policy: ResolutionPolicy, device: torch.device
) -> tuple[Tensor, list[Grid]]:
    """The normalised patches of all pictures, one after another, on `device`, and the pictures' grids."""

    def of_one(image: Tensor) -> tuple[Tensor, Grid]:
        if is_features(image):
            return to_device(image, device)[None], (1, 1, 1)
        return layout.patchify(prepare(image, layout, policy, device))

    def without_gradient(image: Tensor) -> tuple[Tensor, Grid]:
        with torch.no_grad():  # a thread begins with gradients enabled
            return of_one(image)

    if not images:
        return torch.empty(0, device=device), []
    many = len(images) > 1 and sum(image.numel() for image in images) >= _WORTH_THREADS
    if device.type == "cpu" and many and not any(image.requires_grad for image in images):
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            parts = list(threads.map(without_gradient, images))
    else:
        parts = [of_one(image) for image in images]
    return torch.cat([part for part, _ in parts]), [grid for _, grid in parts]


def grid_of(decoded: Tensor, layout: ImageLayout, policy: ResolutionPolicy) -> Grid:
    """The grid that a decoded picture will have; nothing is computed."""
    if is_features(decoded):
        return 1, 1, 1
    if decoded.dtype is not torch.uint8:
        return layout.grid(decoded)
    fitted = layout.fitted((decoded.shape[-2], decoded.shape[-1]), policy)
    return layout.grid(torch.empty((3, *fitted), device="meta"))
