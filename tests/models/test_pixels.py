"""Preprocessing: patches as transformers makes them, sizes by the resolution policy, gradients to the pixels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from zreward.errors import InputError
from zreward.models.layouts import PatchLayout, SquareLayout
from zreward.models.pixels import ResolutionPolicy, resize, to_pixels


def test_patches_equal_those_of_transformers():
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (96, 64, 3), dtype=np.uint8))
    layout = PatchLayout(patch=16, merge=2, frames=2)
    processor = Qwen2VLImageProcessorPil(
        do_resize=False,
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=layout.mean,
        image_std=layout.std,
    )
    theirs = processor(picture, return_tensors="pt")
    patches, grid = layout.patchify(to_pixels(picture))
    assert torch.tensor([grid]).equal(theirs["image_grid_thw"])
    assert torch.allclose(patches, theirs["pixel_values"], atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "size", "expected"),
    [
        (ResolutionPolicy(), (33, 62), (32, 64)),  # only rounded
        (ResolutionPolicy(longest_side=64), (128, 64), (64, 32)),
        (ResolutionPolicy(longest_side=64), (32, 32), (32, 32)),  # never enlarged
        (ResolutionPolicy(pixel_budget=64 * 64), (128, 128), (64, 64)),
        (ResolutionPolicy(longest_side=64), (640, 8), (64, 8)),  # at least one merged patch a side
    ],
)
def test_resolution_policy(policy, size, expected):
    assert policy.target(size, multiple=8) == expected


@pytest.mark.parametrize("size", [(1000, 37), (511, 513), (77, 1024), (3000, 2999)])
def test_limits_hold_and_the_aspect_is_kept(size):
    height, width = ResolutionPolicy(pixel_budget=100_000).target(size, 8)
    assert height * width <= 100_000
    assert height % 8 == 0
    assert width % 8 == 0
    shrink = min(1.0, (100_000 / (size[0] * size[1])) ** 0.5)
    assert abs(height - size[0] * shrink) <= 8
    assert abs(width - size[1] * shrink) <= 8
    assert max(ResolutionPolicy(longest_side=256).target(size, 8)) <= 256


@pytest.mark.parametrize("options", [{"longest_side": 0}, {"pixel_budget": -4}, {"longest_side": 8, "pixel_budget": 8}])
def test_a_resolution_policy_that_makes_no_sense_is_refused(options):
    with pytest.raises(InputError, match="resolution"):
        ResolutionPolicy(**options)


def test_a_square_tower_sees_the_whole_image_on_its_mean_colour():
    layout = SquareLayout(side=16, tokens_per_image=4, mean=(0.2, 0.4, 0.6))
    wide = torch.ones(3, 8, 32)
    fitted = layout.fit(wide, ResolutionPolicy())
    assert fitted.shape == (3, 16, 16)
    assert torch.allclose(fitted[:, 6:10], torch.ones(3, 4, 16))  # 8 x 32 becomes 4 x 16, in the middle
    for rows in (fitted[:, :6], fitted[:, 10:]):
        assert torch.allclose(rows, torch.tensor(layout.mean).view(3, 1, 1).expand_as(rows))
    squares, grid = layout.patchify(fitted)
    assert squares.shape == (1, 3, 16, 16)
    assert squares[0, :, 0].abs().max() < 1e-6  # the mean colour is zero to the tower
    assert layout.tokens(grid) == 4


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 8, 8), 255.0), r"range over \[255, 255\].*divide by 255"),
        (torch.full((3, 8, 8), -1.0), "undo normalisation"),
        (torch.full((3, 8, 8), float("nan")), "NaN"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "torch.uint8; expected floats"),
        (torch.zeros(1, 8, 8), r"\(1, 8, 8\); expected .*RGB"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\); expected \(H, W, 3\)"),
        (42, "image is a int"),
    ],
)
def test_pixels_out_of_range_are_refused_not_rescaled(image, message):
    with pytest.raises(InputError, match=message):
        to_pixels(image)


def test_calling_on_one_image_without_a_batch_says_what_is_expected(model):
    with pytest.raises(InputError, match=r"\(3, 32, 32\).*\(N, 3, H, W\)"):
        model(torch.zeros(3, 32, 32), "a red circle")


def test_resizing_is_differentiable_and_stays_in_range():
    pixels = torch.rand(3, 50, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    small = resize(pixels, (24, 16))
    small.sum().backward()
    assert small.shape == (3, 24, 16)
    assert float(small.min()) >= 0
    assert float(small.max()) <= 1
    assert (pixels.grad != 0).any()


@pytest.mark.parametrize("size", [(32, 32), (44, 28)])
def test_pixel_gradients_agree_with_finite_differences(family_model, size):
    """In float64, along directions uphill at a random half of the pixels; the second size is resized on the way in.

    Some layers of transformers' models compute in float32 even then: that limits the agreement, not the gradient.
    """
    model = copy.deepcopy(family_model).double()
    generator = torch.Generator().manual_seed(5)
    pixels = 0.1 + 0.8 * torch.rand(2, 3, *size, generator=generator, dtype=torch.float64)
    prompts, step = ["a red circle", "two blue squares"], 1e-5

    def total(pixels: torch.Tensor) -> torch.Tensor:
        scores = model(pixels, prompts)
        return (scores.mean * torch.tensor([1.0, -2.0, 0.5, 3.0])).sum() + scores.std.sum()

    pixels.requires_grad_()
    (gradient,) = torch.autograd.grad(total(pixels), pixels)
    assert torch.isfinite(gradient).all()
    for _ in range(4):
        direction = gradient.sign() * (torch.rand(pixels.shape, generator=generator) < 0.5)
        with torch.no_grad():
            numeric = (total(pixels + step * direction) - total(pixels - step * direction)) / (2 * step)
        assert numeric.item() == pytest.approx((gradient * direction).sum().item(), rel=5e-3)
