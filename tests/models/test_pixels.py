"""Preprocessing: patches as transformers makes them, sizes by the resolution policy, gradients to the pixels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.data.images import MAX_PIXELS
from zreward.models.layouts import PatchLayout, SquareLayout
from zreward.models.pixels import DEFAULT_PATCHES, MAX_TARGET, ResolutionPolicy, as_pictures, resize, to_pixels


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
        (torch.full((3, 8, 8), float("inf")), "infinity"),
        (torch.full((3, 8, 8), 1.5, dtype=torch.float16), "undo normalisation"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "torch.int64; expected floats .*or uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), "torch.bool; expected floats"),
        (np.zeros((8, 8, 3), np.uint16), "uint16; expected uint8, or floats"),
        (np.zeros((8, 8, 3), np.longdouble), "expected uint8, or floats"),
        (np.array([[None]]), "object; expected uint8"),
        (torch.zeros(5, 8, 8), r"tensor has shape \(5, 8, 8\); expected \(H, W\), \(H, W, C\) or \(C, H, W\)"),
        (torch.zeros(2, 8, 4), r"shape \(2, 8, 4\).* read in one way only"),  # grey and alpha, or RGBA
        (np.zeros((2, 8, 8, 3)), r"array has shape \(2, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "has no pixels"),
        (np.broadcast_to(np.zeros(1, np.uint8), (100_000, 100_000, 3)), "is more than 67,108,864 pixels"),
        (torch.zeros(1).expand(3, 100_000, 100_000), "is more than 67,108,864 pixels"),
        (torch.zeros(3, 8, 8).to_sparse(), "torch.sparse_coo; expected a dense one"),
        (torch.zeros(3, 8, 8, device="meta"), "without data"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), "torch.complex64; expected floats"),
        (42, "image is of type int"),
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


def arrays(array: np.ndarray) -> dict[str, np.ndarray | torch.Tensor]:
    """An array (H, W, C) of bytes in every layout and type that is taken."""
    tensor, unit = torch.from_numpy(array), array.astype(np.float64) / 255
    flat = array.shape[2] == 1
    return {
        "array": array,
        "array, channels first": array.transpose(2, 0, 1),
        "array, read backwards": array[::-1, ::-1].copy()[::-1, ::-1],
        "array of doubles": unit,
        "array of floats": unit.astype(np.float32),
        "array of floats, other byte order": unit.astype(">f4"),
        "tensor": tensor.permute(2, 0, 1),
        "tensor, channels last": tensor,
        "tensor of doubles": torch.from_numpy(unit).permute(2, 0, 1),
        "tensor of floats": torch.from_numpy(unit).permute(2, 0, 1).float(),
        **({"array (H, W)": array[..., 0], "tensor (H, W)": tensor[..., 0]} if flat else {}),
    }


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_arrays_and_tensors_mean_what_the_picture_means(channels, mode):
    array = np.random.default_rng(channels).integers(0, 256, (24, 40, channels), dtype=np.uint8)
    expected = to_pixels(Image.fromarray(array[..., 0] if channels == 1 else array, mode))
    for name, given in arrays(array).items():
        found = to_pixels(given)
        assert found.shape == (3, 24, 40) and found.dtype in (torch.float32, torch.float64), name
        # Floats are composed exactly, bytes rounded as Pillow does
        assert (found - expected).abs().max() <= (1e-6 if "float" not in name and "double" not in name else 1 / 255), (
            name
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_and_computed_in_float32(dtype):
    pixels = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert to_pixels(pixels).dtype == torch.float32
    assert torch.equal(to_pixels(pixels), pixels.float())
    if dtype == torch.float16:
        assert torch.equal(to_pixels(pixels.permute(1, 2, 0).numpy()), pixels.float())


def test_three_rows_or_columns_are_read_by_the_kind_of_array():
    assert to_pixels(np.zeros((3, 8, 3), np.uint8)).shape == (3, 3, 8)
    assert to_pixels(torch.zeros(3, 8, 3)).shape == (3, 8, 3)


def test_batches_and_single_pictures_become_lists():
    batch = torch.rand(4, 3, 8, 8)
    assert [torch.equal(one, other) for one, other in zip(as_pictures(batch), batch, strict=True)] == [True] * 4
    assert len(as_pictures(np.zeros((2, 8, 8, 3), np.uint8))) == 2
    for single in (batch[0], np.zeros((8, 8), np.uint8), Image.new("L", (2, 2)), "a.png", b"x"):
        assert len(as_pictures(single)) == 1


def test_a_batch_and_a_list_and_one_picture_score_alike(model):
    batch = np.random.default_rng(3).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    want = model.score([Image.fromarray(one) for one in batch], "a red circle").probs
    ways = (batch, batch.transpose(0, 3, 1, 2), list(batch), torch.from_numpy(batch), torch.from_numpy(batch) / 255)
    for images in ways:
        assert torch.allclose(model.score(images, "a red circle").probs, want, atol=1e-5)
    for single in (batch[0], Image.fromarray(batch[0]), torch.from_numpy(batch[0]).permute(2, 0, 1)):
        assert torch.allclose(model.score(single, "a red circle").probs, want[:1], atol=1e-5)
        assert torch.allclose(model.score(single, ["a red circle"]).probs, want[:1], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(32, 32), (45, 61)])
def test_generators_pixels_of_every_type_give_scores_and_gradients(family_model, dtype, size):
    values = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2)).to(dtype)
    given, reference = values.clone().requires_grad_(), values.float().requires_grad_()
    found, want = family_model(given, "a red circle"), family_model(reference, "a red circle")
    assert torch.allclose(found.mean.float(), want.mean, atol=1e-5)
    found.mean.sum().backward()
    want.mean.sum().backward()
    assert given.grad.dtype == dtype and torch.isfinite(given.grad).all()
    assert (given.grad.float() - reference.grad).norm() <= 1e-2 * reference.grad.norm()


def test_bytes_are_for_score_not_for_gradients(model):
    with pytest.raises(
        InputError, match=r"torch.uint8; expected floats in \[0, 1\] \(divide bytes by 255; `score` takes"
    ):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "a red circle")
    with pytest.raises(InputError, match="has no pixels"):
        model(torch.zeros(1, 3, 0, 32), "a red circle")


@pytest.mark.parametrize("multiple", [1, 8, 28, 32])
def test_no_shape_exceeds_its_limit(multiple):
    rng = np.random.default_rng(multiple)
    policies = [
        ResolutionPolicy(), ResolutionPolicy(pixel_budget=multiple**2), ResolutionPolicy(longest_side=multiple),
        ResolutionPolicy(pixel_budget=10_007), ResolutionPolicy(longest_side=509), ResolutionPolicy(pixel_budget=10**9),
        ResolutionPolicy(longest_side=10**9),
    ]  # fmt: skip
    sizes = [(1, 1), (1, MAX_PIXELS), (MAX_PIXELS, 1), (2, 60_000), (60_000, 2), (8192, 8192), (1, 300)]
    sizes += [tuple(int(2**power) for power in rng.uniform(0, 13, 2)) for _ in range(300)]
    for policy in policies:
        for height, width in sizes:
            found = policy.target((height, width), multiple)
            assert all(side >= multiple and side % multiple == 0 for side in found)
            assert found[0] * found[1] <= min(policy.pixel_budget or MAX_TARGET, MAX_TARGET)
            assert max(found) <= (policy.longest_side or MAX_TARGET)
            if not policy.is_limited:
                assert found[0] * found[1] <= DEFAULT_PATCHES * multiple**2


@pytest.mark.parametrize("policy", [ResolutionPolicy(longest_side=31), ResolutionPolicy(pixel_budget=1023)])
def test_a_limit_below_one_patch_is_refused(policy):
    with pytest.raises(
        InputError, match="no room for one patch .* longest_side of 32 or more, or a pixel_budget of 1024"
    ):
        policy.target((100, 100), 32)


def test_a_large_picture_is_bounded_without_a_policy(model):
    """On a tower of 8 pixels a merged patch: 4,096 patches, a square of 512."""
    assert model.open(Image.new("1", (3000, 3000))).shape == (3, 512, 512)
    assert model.layout.preprocessor(ResolutionPolicy())["size"]["longest_edge"] == 512 * 512
