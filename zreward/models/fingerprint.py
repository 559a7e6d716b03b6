"""Which weights a model has, in sixteen letters."""

from __future__ import annotations

import hashlib

from zreward.models.reward_model import RewardModel


def weights_fingerprint(model: RewardModel) -> str:
    """A short digest of all weights: sums and first values of every tensor."""
    digest = hashlib.sha256()
    for name, value in model.backbone.model.state_dict().items():
        flat = value.detach().flatten()[:64].float().cpu()
        digest.update(f"{name} {value.float().sum().item():.6e}".encode() + flat.numpy().tobytes())
    return digest.hexdigest()[:16]
