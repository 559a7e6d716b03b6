"""The whitened patch embedding: uncorrelated responses of equal spread, strongest components first."""

import pytest
import torch

from zreward.errors import InputError
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.models.whitening import whiten_patches
from zreward.rubric import Rubric

SPEC = ScratchSpec(
    hidden_size=24, heads=2, layers=1, vision_hidden_size=24, vision_heads=2, vision_layers=1, patch_size=4
)


def smooth_pictures(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return list(torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1))


def responses(model, pictures) -> torch.Tensor:
    """What the tower's own patch embedding makes of every patch, (patches, channels)."""
    patches = torch.cat([model.layout.patchify(picture)[0] for picture in pictures])
    return model.backbone.vision_tower.patch_embed(patches).detach()


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_vl"])
def test_responses_are_centred_uncorrelated_and_of_the_wanted_spread(family):
    torch.manual_seed(0)
    model = make_scratch(family, SPEC, ["a cat"], Rubric.default())
    pictures = smooth_pictures(40)
    whiten_patches(model, pictures, gain=0.5)
    seen = responses(model, pictures)
    covariance = torch.cov(seen.T)
    strongest = 3  # their variance lies far above the damping
    assert torch.allclose(seen.mean(0), torch.zeros(24), atol=1e-4)
    assert torch.allclose(covariance[:strongest, :strongest], 0.25 * torch.eye(strongest), atol=0.01)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3


def test_components_stand_in_the_order_of_their_variance():
    torch.manual_seed(0)
    model = make_scratch("qwen3_5", SPEC, ["a cat"], Rubric.default())
    whiten_patches(model, smooth_pictures(40), gain=0.5)
    norms = model.backbone.vision_tower.patch_embed.proj.weight.flatten(1).norm(dim=1)
    assert (norms.diff() > 0).all()  # a filter is the longer, the fainter its component


def test_a_tower_without_a_patch_embedding_is_refused():
    torch.manual_seed(0)
    model = make_scratch("qwen3_5", SPEC, ["a cat"], Rubric.default())
    model.backbone.vision_tower.patch_embed = torch.nn.Identity()
    with pytest.raises(InputError, match=r"no patch_embed\.proj.*whiten_patches to 0"):
        whiten_patches(model, smooth_pictures(2), gain=0.5)
