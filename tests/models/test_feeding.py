"""From a picture to patches on the model's device: bytes travel, the arithmetic stays that of the gradient's path."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from tests.tiny import noise_pictures, tiny_model
from zreward.common.errors import InputError
from zreward.models import feeding
from zreward.models.layouts import PatchLayout, SquareLayout
from zreward.models.pixels import ResolutionPolicy, as_floats, to_pixels, to_tensor

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda"), torch.device("meta")  # a GPU's rule needs no GPU
PATCHES, SQUARES = PatchLayout(4, 2, 2), SquareLayout(32, 16)
POLICY = ResolutionPolicy(longest_side=64)


def picture(width: int, height: int):
    return noise_pictures(1, ((width, height),))[0]


def test_a_byte_is_divided_as_numpy_divides_it():
    every = torch.arange(256, dtype=torch.uint8)
    assert as_floats(every).tolist() == (np.arange(256, dtype=np.float32) / np.float32(255)).tolist()
    floats = torch.rand(3, dtype=torch.float64)
    assert as_floats(floats) is floats


@pytest.mark.parametrize(
    ("device", "size", "kept"),
    [
        (CPU, (64, 32), torch.uint8),  # of the final size
        (CPU, (128, 64), torch.float32),  # threads that open pictures resize them
        (CUDA, (64, 32), torch.uint8),
        (CUDA, (40, 30), torch.uint8),  # the GPU resizes
        (CUDA, (128, 128), torch.uint8),  # four bytes for each of the 64 x 64 that the model sees
        (CUDA, (130, 130), torch.float32),
    ],
)
def test_bytes_are_kept_where_they_take_no_more_memory(device, size, kept):
    decoded = feeding.decode(picture(*size), PATCHES, POLICY, device)
    assert decoded.dtype is kept and decoded.device == CPU
    assert decoded.shape == ((3, *size[::-1]) if kept is torch.uint8 else (3, *PATCHES.fitted(size[::-1], POLICY)))


@pytest.mark.parametrize("layout", [PATCHES, SQUARES])
@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("size", [(8, 8), (16, 200), (31, 33), (32, 32), (64, 64), (128, 129), (700, 300)])
def test_a_decoded_picture_is_never_larger_and_becomes_the_same_pixels(layout, device, size):
    opened = layout.fit(to_pixels(picture(*size)), POLICY)
    decoded = feeding.decode(picture(*size), layout, POLICY, device)
    assert decoded.nbytes <= opened.nbytes
    assert torch.equal(feeding.prepare(decoded, layout, POLICY, CPU), opened)
    assert feeding.grid_of(decoded, layout, POLICY) == layout.grid(opened)


def test_floats_stay_floats_of_their_precision_and_keep_their_gradient():
    pixels = torch.rand(3, 64, 32, dtype=torch.float64, requires_grad=True)
    decoded = feeding.decode(pixels, PATCHES, POLICY, CUDA)
    assert decoded.dtype is torch.float64
    found, _ = feeding.patches([decoded], PATCHES, POLICY, CPU)
    assert torch.equal(torch.autograd.grad(found.sum(), pixels)[0], torch.full((3, 64, 32), 4.0, dtype=torch.float64))


def test_only_bytes_travel_to_another_device(monkeypatch):
    """`meta` stands for a GPU: 3 bytes a pixel go there, and patches of 24 come out there."""
    moved, to_device = [], feeding.to_device

    def watched(tensor, device):
        moved.append((tensor.dtype, tensor.nbytes, threading.current_thread() is threading.main_thread()))
        return to_device(tensor, device)

    monkeypatch.setattr(feeding, "to_device", watched)
    monkeypatch.setattr(feeding, "_WORTH_THREADS", 0)
    decoded = [to_tensor(picture(*size)) for size in ((64, 64), (100, 80))]
    found, grids = feeding.patches(decoded, PATCHES, POLICY, META)
    assert moved == [(torch.uint8, 3 * 64 * 64, True), (torch.uint8, 3 * 100 * 80, True)]
    assert grids == [(1, 16, 16), (1, 12, 16)]
    assert found.device == META and found.shape == (16 * 16 + 12 * 16, 3 * 2 * 4 * 4)


@pytest.mark.parametrize("layout", [PATCHES, SQUARES])
def test_threads_make_patches_on_a_cpu_in_order(layout, monkeypatch):
    seen, patchify = [], type(layout).patchify

    def watched(self, pixels):
        seen.append((threading.current_thread() is threading.main_thread(), torch.is_grad_enabled()))
        return patchify(self, pixels)

    monkeypatch.setattr(feeding, "_WORTH_THREADS", 1)
    sizes = ((64, 64), (32, 64), (32, 32), (64, 8), (40, 30))
    decoded = [feeding.decode(one, layout, POLICY, CPU) for one in noise_pictures(9, sizes)]
    one_by_one = [layout.patchify(layout.fit(to_pixels(one), POLICY)) for one in noise_pictures(9, sizes)]
    monkeypatch.setattr(type(layout), "patchify", watched)
    found, grids = feeding.patches(decoded, layout, POLICY, CPU)
    assert torch.equal(found, torch.cat([part for part, _ in one_by_one]))
    assert grids == [grid for _, grid in one_by_one]
    assert seen == [(False, False)] * 9


@pytest.mark.parametrize("case", ["few", "alone", "gradient"])
def test_threads_are_not_used_where_they_cannot_help(case, monkeypatch):
    if case != "few":
        monkeypatch.setattr(feeding, "_WORTH_THREADS", 1)
    monkeypatch.setattr(feeding, "ThreadPoolExecutor", None)
    images = [torch.rand(3, 64, 64, requires_grad=case == "gradient") for _ in range(1 if case == "alone" else 2)]
    feeding.patches(images, PATCHES, POLICY, CPU)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(feeding, "_WORTH_THREADS", 1)
    threads = threading.active_count()
    images = [torch.rand(3, 64, 64) for _ in range(20)]
    images[7] = torch.rand(3, 63, 64)  # no whole patches
    with pytest.raises(RuntimeError, match="shape"):
        feeding.patches(images, PATCHES, POLICY, CPU)
    assert threading.active_count() == threads


@pytest.fixture(scope="module", params=["qwen3_5", "llava"])
def limited(request):
    model = tiny_model(request.param)
    model.resolution = POLICY
    return model


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (40, 30), (150, 90)])
def test_score_of_a_picture_is_that_of_its_pixels_to_the_last_bit(limited, size):
    shown = picture(*size)
    with torch.no_grad():
        of_pixels = limited(to_pixels(shown)[None], "a red circle").probs
    assert torch.equal(limited.score([shown], "a red circle").probs, of_pixels)
    assert torch.equal(limited.score([np.asarray(shown)], "a red circle").probs, of_pixels)


def test_decoded_pictures_go_where_opened_ones_go(limited):
    """Bytes of any size: a GPU's way, followed on a CPU."""
    pictures = noise_pictures(3, ((32, 32), (40, 30), (150, 90)))
    given = [(to_tensor(one),) for one in pictures]
    opened = [(limited.open(one),) for one in pictures]
    names = limited.rubric.dimension_names
    lengths = [[limited.length(one, "a", names[0]) for one in each] for each in (given, opened)]
    assert lengths[0] == lengths[1]
    scores = [limited.score_opened(each, ["a", "b", "c"], names, 2).probs for each in (given, opened)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("how", ["score", "judge"])
def test_a_broken_picture_is_named_and_nothing_hangs(limited, how, tmp_path):
    files = [tmp_path / f"{n}.png" for n in range(40)]
    for file in files:
        picture(32, 32).save(file)
    files[23].write_bytes(files[23].read_bytes()[:100])
    threads = threading.active_count()
    with pytest.raises(InputError, match=r"23\.png: "):
        getattr(limited, how)(files, "a red circle", batch_size=4)
    assert threading.active_count() == threads


def test_judging_opens_pictures_in_threads_and_keeps_their_order(limited, monkeypatch):
    seen, decode = [], limited.decode
    monkeypatch.setattr(limited, "decode", lambda image: seen.append(threading.current_thread()) or decode(image))
    pictures = noise_pictures(5, ((32, 32), (64, 32)))
    judged = limited.judge(pictures, "a red circle", temperature=0, dimensions=["realism"], batch_size=2)
    alone = [limited.judge([one], "a red circle", temperature=0, dimensions=["realism"])[0] for one in pictures]
    assert threading.main_thread() not in seen and len(seen) == 10
    for together, single in zip(judged, alone, strict=True):
        assert torch.allclose(together.distribution.probs, single.distribution.probs, atol=1e-5)
    assert not torch.allclose(judged[0].distribution.probs, judged[1].distribution.probs, atol=1e-5)
