"""Opening images of every kind, and refusing what is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import images
from zreward.data.images import open_image, pixel_hash


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def test_path_bytes_and_pil_give_the_same_rgb(tmp_path: Path) -> None:
    image = Image.effect_noise((9, 5), 60).convert("RGB")
    image.save(tmp_path / "a.png")
    for source in (str(tmp_path / "a.png"), tmp_path / "a.png", encoded(image), image):
        opened = open_image(source)
        assert opened.mode == "RGB" and opened.tobytes() == image.tobytes() and opened is not image


def test_exif_orientation_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    assert open_image(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


def test_transparency_is_laid_on_white() -> None:
    assert open_image(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_other_modes() -> None:
    grey = Image.fromarray(np.full((2, 2), 0x80FF, np.uint16))
    assert open_image(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)  # upper eight bits, not clipped to white
    assert open_image(Image.new("CMYK", (1, 1))).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(InputError, match="mode 'F' have no known range"):
        open_image(Image.new("F", (1, 1)))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("keep", [0.02, 0.5])
def test_truncated(format: str, keep: float) -> None:
    content = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), format)
    with pytest.raises(InputError, match=r"image of .* bytes: "):
        open_image(content[: int(len(content) * keep)])


def test_refuses_what_is_no_image() -> None:
    with pytest.raises(InputError, match="image of 0 bytes: empty"):
        open_image(b"")
    with pytest.raises(InputError, match="not an image that can be read"):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript
    with pytest.raises(InputError, match="image is of type int"):
        open_image(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is a URL"):
        open_image("file:///etc/passwd")


def test_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("L", (64, 64)))
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 63)
    with pytest.raises(InputError, match="64 x 64 is more than 4,032 pixels"):
        open_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own limit, twice over, is its error
    with pytest.raises(InputError, match="scale the image down"):
        open_image(content)


def test_pixel_hash_is_of_the_picture_not_of_the_file() -> None:
    image = Image.effect_noise((8, 8), 60).convert("RGB")
    assert pixel_hash(encoded(image)) == pixel_hash(encoded(image, "BMP")) == pixel_hash(image)
    assert pixel_hash(image) != pixel_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert pixel_hash(Image.new("RGB", (2, 8))) != pixel_hash(Image.new("RGB", (8, 2)))  # the same bytes
