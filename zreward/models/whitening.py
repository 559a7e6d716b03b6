"""A first patch embedding made from pictures: whitening filters in place of random ones.

A vision tower that starts from random weights and a few thousand pictures spends most of its training on its first
layer. The principal components of its patches, scaled to the same variance, are a good first layer for free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zreward.errors import InputError
from zreward.models.reward_model import RewardModel

DAMPING = 1e-3  # variance added to every component: the faint ones are mostly noise


@torch.no_grad()
def whiten_patches(model: RewardModel, images: Sequence[Tensor], gain: float) -> None:
    """Set the patch embedding of a Qwen-type tower to the leading whitening filters of the patches of `images`.

    `images`: opened ones, (3, H, W) in [0, 1]. `gain`: standard deviation of each filter's response. Channels beyond
    the number of a patch's values keep their weights. Raises InputError for a tower without a patch embedding.
    """
    embedding = getattr(getattr(model.backbone.vision_tower, "patch_embed", None), "proj", None)
    if embedding is None:
        raise InputError(
            "whiten_patches: the vision tower has no patch_embed.proj; set model.scratch.whiten_patches to 0"
        )
    patches = torch.cat([model.layout.patchify(image)[0] for image in images]).to(embedding.weight)
    mean = patches.mean(0)
    variances, components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    channels = min(embedding.out_channels, len(variances))
    scales = gain / (variances + DAMPING).sqrt()
    filters = (components * scales).flip(1).T[:channels]  # eigh's order is ascending
    embedding.weight[:channels] = filters.reshape(channels, *embedding.weight.shape[1:])
    embedding.bias[:channels] = -filters @ mean
