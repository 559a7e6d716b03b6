"""Metadata never decides whether pixels are readable, nor what they are; damaged pixels are refused still."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from tests.ways_in import chunk, encoded, png
from zreward.common.errors import InputError
from zreward.data import containers
from zreward.data.containers import orientation, take_apart
from zreward.data.images import open_image
from zreward.serving.decoding import measure

RNG = np.random.default_rng(1)
NOISE = Image.fromarray(RNG.integers(0, 256, (24, 16, 3), dtype=np.uint8))
PNG, JPEG = encoded(NOISE), encoded(NOISE, "JPEG")
WEBP = encoded(NOISE, "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
AFTER_HEADER = 33  # bytes of a PNG's signature and header


def text(name: str, value: str, zip: bool = False) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(name, value, zip=zip)
    return info


def international(size: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("workflow", "x" * size, zip=True)
    return info


def in_png(*chunks: bytes) -> bytes:
    return PNG[:AFTER_HEADER] + b"".join(chunks) + PNG[AFTER_HEADER:]


def in_jpeg(*segments: tuple[int, bytes]) -> bytes:
    made = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return JPEG[:2] + made + JPEG[2:]


def in_webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = WEBP[8:] + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


BROKEN = {
    "EXIF written as text": in_png(chunk(b"eXIf", b"b'Exif\\x00\\x00MM")),
    "EXIF that is cut": in_png(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x05\x01")),
    "a profile of EXIF that is not hex": encoded(NOISE, pnginfo=text("Raw profile type exif", "\nexif\n  10\nzz")),
    "packed text of 1.5 MB": encoded(NOISE, pnginfo=text("workflow", "x" * 1_500_000, zip=True)),
    "international text of 1.5 MB": encoded(NOISE, pnginfo=international(1_500_000)),
    "70 MB of texts": in_png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_000_000))] * 70),
    "text before the pixels that unpacks to nothing": in_png(chunk(b"zTXt", b"a\0\0broken")),
    "text behind the pixels": PNG[:-12] + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_500_000)) + PNG[-12:],
    "a profile of 1.2 MB of zeros": encoded(NOISE, icc_profile=b"\0" * 1_200_000),
    "a profile that is none": encoded(NOISE, icc_profile=b"no profile"),
    "a text named transparency": encoded(NOISE, pnginfo=text("transparency", "none")),
    "a text named exif": encoded(NOISE, pnginfo=text("exif", "none")),
    "a text named icc_profile": encoded(NOISE, pnginfo=text("icc_profile", "none")),
    "short pHYs": in_png(chunk(b"pHYs", b"\0")),
    "short gAMA": in_png(chunk(b"gAMA", b"\0")),
    "short cHRM": in_png(chunk(b"cHRM", b"\0" * 5)),
    "short sRGB": in_png(chunk(b"sRGB", b"")),
    "short acTL": in_png(chunk(b"acTL", b"\0")),
    "wrong checksum of a text": in_png(chunk(b"tEXt", b"a\0b", wrong=1)),
    "wrong checksum of the time": in_png(chunk(b"tIME", b"\0" * 7, wrong=1)),
    "wrong checksum of a transparent colour": in_png(chunk(b"tRNS", b"\0" * 6, wrong=1)),
    "a transparent colour of the wrong size": in_png(chunk(b"tRNS", b"\0")),
    "wrong checksum of the end": PNG[:-1] + b"\0",
    "an empty chunk without a name": in_png(chunk(b"\0\0\0\0", b"")),
    "a text that is cut": PNG[:-12] + b"\0\0\xff\xfftEXtabc",
    "JPEG, EXIF that is none": in_jpeg((0xE1, b"Exif\0\0nonsense")),
    "JPEG, short JFIF": in_jpeg((0xE0, b"JFIF\0\1")),
    "JPEG, short Adobe": in_jpeg((0xEE, b"Adobe")),
    "JPEG, photoshop that is none": in_jpeg((0xED, b"Photoshop 3.0\x008BIM\x04")),
    "JPEG, profile of which a part is missing": in_jpeg((0xE2, b"ICC_PROFILE\0\2\2" + bytes(40))),
    "JPEG, index of pictures that is none": in_jpeg((0xE2, b"MPF\0MM\0*\0\0")),
    "JPEG, fill bytes": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
    "WebP, EXIF that is none": in_webp((b"EXIF", b"Exif\0\0nonsense")),
    "WebP, XMP that is none": in_webp((b"XMP ", b"\xff" * 5)),
    "WebP, profile that is none": in_webp((b"ICCP", b"nonsense")),
    "WebP, EXIF that is cut": WEBP[:-3],
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_whole_pixels_are_read_whatever_stands_beside_them(name):
    expected = JPEG if name.startswith("JPEG") else PNG
    assert open_image(BROKEN[name]).tobytes() == open_image(expected).tobytes()
    assert measure(BROKEN[name], "image") == (24, 16)  # the server's look at the header


@pytest.mark.parametrize("name", ["a text named transparency", "a text named exif", "a text named icc_profile",
                                  "text behind the pixels", "a profile that is none"])  # fmt: skip
def test_that_holds_for_pictures_that_pillow_has_opened(name):
    assert open_image(Image.open(io.BytesIO(BROKEN[name]))).tobytes() == NOISE.tobytes()


def test_random_metadata_changes_nothing():
    """500 pictures, each with a block of random bytes under a known or unknown name."""
    rng = np.random.default_rng(2)
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"tIME", b"acTL",
             b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"cICP", b"prVt"]  # fmt: skip
    jpeg = open_image(JPEG).tobytes()
    for number in range(250):
        noise = rng.bytes(int(rng.integers(0, 60)))
        assert open_image(in_png(chunk(kinds[number % len(kinds)], noise))).tobytes() == NOISE.tobytes()
        assert open_image(in_jpeg((0xE0 + number % 16, noise))).tobytes() == jpeg


def test_the_orientation_survives_broken_neighbours():
    header = b"MM\0*\0\0\0\x08\0\2"
    broken = struct.pack(">HHII", 0x010F, 2, 0xFFFFFF, 0xFFFFFF)  # a text far outside of the block
    turned = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    assert open_image(in_png(chunk(b"eXIf", header + broken + turned))).size == (24, 16)
    assert orientation(header + turned + broken) == orientation(b"Exif\0\0" + header + turned + broken) == 6
    assert orientation(header + turned.replace(b"\0\6", b"\0\x09")) == 1
    assert orientation(b"") == orientation(b"MM\0*") == orientation(b"II*\0\xff\xff\xff\xff") == 1


def test_tiff_with_a_broken_exif_block_is_read():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[34665] = 0xFFFFFF  # where the EXIF block is said to be
    tags[0x0112] = 6
    for compression in ("raw", "tiff_lzw"):
        content = encoded(NOISE, "TIFF", tiffinfo=tags, compression=compression)
        assert b"\xff\xff\xff\0" in content
        assert open_image(content).tobytes() == NOISE.transpose(Image.Transpose.ROTATE_270).tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PNG[: len(PNG) // 2], "IDAT chunk is cut or fails its checksum"),
        (PNG[:-20] + b"\xff" + PNG[-19:], "IDAT chunk is cut or fails its checksum"),
        (PNG[:20] + b"\xff" + PNG[21:], "IHDR chunk is cut or fails its checksum"),
        (PNG[:AFTER_HEADER], "broken or truncated"),
        (
            png(64, 64, 8, 2, bytes(64 * 193))[:33] + chunk(b"IDAT", zlib.compress(bytes(64 * 193))[:9]) + PNG[-12:],
            "truncated",
        ),
        (png(64, 64, 8, 2, bytes(64 * 100)), "truncated"),
        (encoded(NOISE.convert("P")).replace(b"PLTE", b"PLTF"), "the palette is missing"),
        (JPEG[: len(JPEG) // 2], "Truncated"),
        (JPEG[:-2], "truncated"),
        (WEBP[: len(WEBP) // 2], "image"),
        (b"<html><body>404</body></html>", "not an image that can be read"),
    ],
)
def test_damaged_pixels_are_refused(content, message):
    with pytest.raises(InputError, match=f"image of .* bytes: .*{message}"):
        open_image(content)


def test_pixels_in_several_chunks_need_all_of_them():
    raw = zlib.compress(bytes(64 * 193))
    halves = chunk(b"IDAT", raw[: len(raw) // 2]), chunk(b"IDAT", raw[len(raw) // 2 :])
    start = png(64, 64, 8, 2, b"")[:AFTER_HEADER]
    assert open_image(start + halves[0] + halves[1]).size == (64, 64)  # the end of the file is no pixel
    with pytest.raises(InputError, match="truncated"):
        open_image(start + halves[0])


@pytest.mark.parametrize(
    ("depth", "colour", "row", "clear", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [0, 255]),
        (2, 0, b"\x1b", b"\0\1", [0, 255, 170, 255]),
        (4, 0, b"\x35", b"\0\5", [51, 255]),
        (16, 2, bytes(6) + b"\x12\x34\x56\x78\x9a\xbc", b"\x12\x34\x56\x78\x9a\xbc", [0, 255]),
    ],
)
def test_a_transparent_colour_is_in_the_files_own_depth(depth, colour, row, clear, expected):
    opened = open_image(png(len(expected), 1, depth, colour, b"\0" + row, chunk(b"tRNS", clear)))
    assert np.asarray(opened)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("clear", [bytes(300), 300, -5], ids=["long", "above", "below"])
def test_transparency_beyond_the_palette_is_none(clear):
    picture = NOISE.convert("P")
    picture.info["transparency"] = clear
    assert open_image(picture).tobytes() == NOISE.convert("P").convert("RGB").tobytes()


def test_a_webp_without_metadata_does_not_say_that_it_has_some():
    bare = take_apart(in_webp((b"XMP ", b"x"), (b"ICCP", b"y")))
    assert bare.pixels is not None and bare.pixels[12:16] == b"VP8X" and not bare.pixels[20] & 0x2C


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_packed_metadata_does_not_unpack_to_gigabytes(kind):
    bomb = in_png(chunk(kind, b"a\0\0" + zlib.compress(bytes(200_000_000), 1)))
    tracemalloc.start()
    try:
        assert open_image(bomb).tobytes() == NOISE.tobytes()
        assert tracemalloc.get_traced_memory()[1] < 5 * containers.MAX_PROFILE
    finally:
        tracemalloc.stop()


def test_millions_of_empty_blocks_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(containers, "MAX_BLOCKS", 1000)
    for content in (in_png(*[chunk(b"tEXt", b"")] * 1000), in_jpeg(*[(0xE1, b"")] * 1000), in_webp(*[(b"EXIF", b"")] * 1000),
                    JPEG[:2] + b"\xff" * 1000 + JPEG[2:]):  # fmt: skip
        with pytest.raises(InputError, match="more than 1,000 blocks"):
            open_image(content)


def test_other_formats_are_not_taken_apart():
    for format in ("GIF", "BMP", "TIFF"):
        assert take_apart(encoded(NOISE, format)).pixels is None
    for content in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InputError):
            open_image(content)
