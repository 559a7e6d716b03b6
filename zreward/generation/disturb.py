"""Small disturbances of pictures: a reward that holds only for the exact pixels is a hacked one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def disturbed(pixels: Tensor, shift: int, noise: float) -> Tensor:
    """Every picture (N, 3, H, W) moved by up to `shift` pixels (edges repeated) and with Gaussian noise, in [0, 1].

    Differentiable. Drawn from torch's global random state.
    """
    if shift:
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, (shift,) * 4, mode="replicate")
        corners = torch.randint(0, 2 * shift + 1, (len(pixels), 2)).tolist()
        moved = [picture[:, y : y + height, x : x + width] for picture, (y, x) in zip(padded, corners, strict=True)]
        pixels = torch.stack(moved)
    if noise:
        pixels = pixels + noise * torch.randn_like(pixels)
    return pixels.clamp(0, 1)
