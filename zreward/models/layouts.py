"""How a vision tower takes an image: Qwen-type patches of any resolution, or squares of one fixed size (LLaVA and others)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.common.errors import InputError
from zreward.models.older_transformers import takes_features
from zreward.models.pixels import Resolution, ResolutionPolicy, resize

Channels = tuple[float, float, float]
Grid = tuple[int, int, int]  # frames, patch rows, patch columns


class ImageLayout(Protocol):
    """From pixels (3, H, W) in [0, 1] to vision-tower input; every step is differentiable."""

    @property
    def mean(self) -> Channels: ...
    @property
    def std(self) -> Channels: ...

    def fitted(self, size: Resolution, policy: ResolutionPolicy) -> Resolution:
        """The (height, width) to which `fit` brings an image of that size."""

    def fit(self, pixels: Tensor, policy: ResolutionPolicy) -> Tensor:
        """Resize so that `patchify` can take it, aspect kept."""

    def patchify(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """A fitted image -> normalised input, to be concatenated along its first dimension, and its grid."""

    def grid(self, pixels: Tensor) -> Grid:
        """The grid of a fitted image."""

    def tokens(self, grid: Grid) -> int:
        """How many tokens of the language model an image of that grid becomes."""

    def positions(self, grid: Grid) -> int:
        """By how much an image of that grid moves the text behind it on."""

    def preprocessor(self, policy: ResolutionPolicy) -> dict[str, Any]:
        """A preprocessor_config.json by which other programs prepare images for the checkpoint."""


@dataclass(frozen=True)
class PatchLayout:
    """Qwen-type: square patches, merged `merge` x `merge`, one frame repeated `frames` times; any resolution."""

    patch: int
    merge: int
    frames: int
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    @property
    def multiple(self) -> int:
        return self.patch * self.merge

    def fitted(self, size: Resolution, policy: ResolutionPolicy) -> Resolution:
        return policy.target(size, self.multiple)

    def fit(self, pixels: Tensor, policy: ResolutionPolicy) -> Tensor:
        height, width = pixels.shape[-2:]
        return resize(pixels, self.fitted((height, width), policy))

    def patchify(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """(3, H, W) in [0, 1] -> patches (gh * gw, 3 * frames * patch^2) in merge-block order, and the grid (1, gh, gw)."""
        channels = pixels.shape[0]
        _, grid_h, grid_w = grid = self.grid(pixels)
        m, p = self.merge, self.patch
        blocks = _normalise(pixels, self.mean, self.std).reshape(channels, grid_h // m, m, p, grid_w // m, m, p)
        blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6)  # (gh/m, gw/m, m, m, C, p, p)
        blocks = blocks.unsqueeze(5).expand(-1, -1, -1, -1, -1, self.frames, -1, -1)
        return blocks.reshape(grid_h * grid_w, channels * self.frames * p * p), grid

    def grid(self, pixels: Tensor) -> Grid:
        return 1, pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch

    def tokens(self, grid: Grid) -> int:
        return grid[1] * grid[2] // self.merge**2

    def positions(self, grid: Grid) -> int:
        return max(grid[1], grid[2]) // self.merge  # rows and columns are counted side by side

    def preprocessor(self, policy: ResolutionPolicy) -> dict[str, Any]:
        return {
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": self.patch,
            "merge_size": self.merge,
            "temporal_patch_size": self.frames,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "size": {"shortest_edge": self.multiple**2, "longest_edge": policy.most_pixels(self.multiple)},
        }


@dataclass(frozen=True)
class SquareLayout:
    """Towers of one input size: the image is scaled to touch the square's sides and centred on the mean colour.

    A resolution policy below `side` limits the detail: the image is first reduced to it, then enlarged again.
    """

    side: int  # pixels
    tokens_per_image: int
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    def fitted(self, size: Resolution, policy: ResolutionPolicy) -> Resolution:
        return self.side, self.side

    def fit(self, pixels: Tensor, policy: ResolutionPolicy) -> Tensor:
        height, width = pixels.shape[-2:]
        if policy.is_limited:
            pixels = resize(pixels, policy.target((height, width), 1))
        scale = self.side / max(height, width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = resize(pixels, inner)
        top, left = (self.side - inner[0]) // 2, (self.side - inner[1]) // 2
        room = (left, self.side - inner[1] - left, top, self.side - inner[0] - top)
        mean = pixels.new_tensor(self.mean).view(3, 1, 1)
        return F.pad(pixels - mean, room) + mean

    def patchify(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """(3, side, side) in [0, 1] -> (1, 3, side, side), and the grid of one cell."""
        return _normalise(pixels, self.mean, self.std)[None], self.grid(pixels)

    def grid(self, pixels: Tensor) -> Grid:
        return 1, 1, 1

    def tokens(self, grid: Grid) -> int:
        return self.tokens_per_image

    def positions(self, grid: Grid) -> int:
        return self.tokens_per_image

    def preprocessor(self, policy: ResolutionPolicy) -> dict[str, Any]:
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_center_crop": False,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "size": {"height": self.side, "width": self.side},
        }


def takes_grids(core: Any) -> bool:
    """Whether a model's inner part takes Qwen-type patches with their grids."""
    return hasattr(core, "get_rope_index")


@torch.no_grad()
def layout_of(model: Any) -> ImageLayout:
    """The layout of a Hugging Face image-text-to-text model, by its configuration; InputError when it has none of ours."""
    config, core = model.config, getattr(model, "model", None)
    vision = getattr(config, "vision_config", None)
    if vision is not None and core is not None and hasattr(config, "image_token_id"):
        if takes_grids(core):
            return PatchLayout(vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        side = getattr(vision, "image_size", None)
        side = side[0] if isinstance(side, list | tuple) and len(set(side)) == 1 else side
        if isinstance(side, int) and takes_features(core):
            # Strategies differ (class token kept or not, pooling): the tower itself says how many tokens come out.
            count = _tokens_of_a_blank(model, side)
            if count:
                return SquareLayout(side, count)
    raise InputError(
        f"model type {getattr(config, 'model_type', '?')!r} takes images in a way that is not supported; supported are "
        "Qwen-type models (qwen3_5, qwen3_vl, qwen2_5_vl, qwen2_vl, ...) and models with one fixed image size that take "
        "precomputed image features (llava, ...)"
    )


def _tokens_of_a_blank(model: Any, side: int) -> int:
    """How many tokens a square image becomes; 0 when the tower does not take one (image splitting, several scales)."""
    blank = torch.zeros(1, 3, side, side, dtype=model.dtype, device=next(model.parameters()).device)
    try:
        features = model.model.get_image_features(pixel_values=blank, return_dict=True).pooler_output
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return 0
    return sum(part.numel() for part in features) // model.config.text_config.hidden_size


def _normalise(pixels: Tensor, mean: Channels, std: Channels) -> Tensor:
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)
