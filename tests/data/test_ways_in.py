"""One picture, one meaning: what people see is what comes out, whatever the format and however the picture arrives."""

from __future__ import annotations

import base64
import io
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tests.ways_in import chunk, encoded, png, ways_in
from zreward.common.errors import InputError
from zreward.data import Record, check_disjoint, split_by_prompt
from zreward.data.images import as_list, image_format, open_image, pixel_hashes
from zreward.serving.client import encode
from zreward.serving.decoding import from_base64, from_bytes

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (24, 16, 3), dtype=np.uint8))
FLAT = Image.new("RGB", (16, 24), (200, 40, 90))


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged: a viewer shows (255, 0, 0) as green."""
    profile = bytearray(srgb_profile())
    count = struct.unpack(">I", profile[128:132])[0]
    at = {bytes(profile[132 + 12 * k : 136 + 12 * k]): 132 + 12 * k for k in range(count)}
    red, green = at[b"rXYZ"] + 4, at[b"gXYZ"] + 4
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    return bytes(profile)


def profile(kind: bytes, space: bytes, connection: bytes, **tags: bytes) -> bytes:
    """An ICC profile of these tags, which it needs no more of to be read."""
    white = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, kind, space, connection) + bytes(12) + b"acsp"
    whole = header.ljust(68, b"\0") + white + bytes(48) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return profile(b"mntr", b"GRAY", b"XYZ ", kTRC=curve, wtpt=white)


def inks_profile() -> bytes:
    """Inks of a press that prints "cyan" as a dark grey, and black: a table of two points an ink."""
    identity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x10000)
    steps = bytes(range(256))
    lightness = [0 if number & 1 else 64 if number & 8 else 255 for number in range(16)]  # bits: cyan ... black
    inks = b"".join(bytes((L, 128, 128)) for L in lightness)  # L, a, b
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + steps * 4 + inks + steps * 3
    return profile(b"prtr", b"CMYK", b"Lab ", A2B0=table)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def mode(name: str) -> Image.Image:
    if name == "PA":
        return NOISE.convert("P").convert("PA")
    if name in ("RGBa", "La"):
        return NOISE.convert(name.upper()).convert(name)
    return NOISE.convert(name)


# What is shown, by the rules of zreward.data.colour: content, expected RGB array or colour, tolerance
CASES = {
    "PNG": (encoded(NOISE), np.asarray(NOISE), 0),
    "PNG, palette": (encoded(FLAT.convert("P", palette=Image.Palette.ADAPTIVE)), (200, 40, 90), 0),
    "PNG, 1 bit": (encoded(Image.new("1", (3, 3), 1)), (255, 255, 255), 0),
    "PNG, 1 bit, transparent": (encoded(Image.new("1", (3, 3), 0), transparency=0), (255, 255, 255), 0),
    "PNG, 16-bit grey": (png(1, 1, 16, 0, b"\0\x80\xff"), (128, 128, 128), 0),
    "PNG, 16-bit grey, transparent": (
        png(2, 1, 16, 0, b"\0\x12\x34\x80\xff", chunk(b"tRNS", b"\x12\x34")),
        np.array([[[255] * 3, [128] * 3]]),
        0,
    ),
    "PNG, 16-bit RGB": (png(1, 1, 16, 2, b"\0\x12\x34\x56\x78\x9a\xbc"), (0x12, 0x56, 0x9A), 0),
    "PNG, 16-bit RGBA": (png(1, 1, 16, 6, b"\0\0\0\0\0\0\0\x80\0"), (127, 127, 127), 0),
    "PNG, half clear": (encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128))), (255, 127, 127), 0),
    "PNG, colour that is clear": (encoded(FLAT, transparency=(200, 40, 90)), (255, 255, 255), 0),
    "PNG, clear palette": (encoded(FLAT.convert("P", palette=Image.Palette.ADAPTIVE), transparency=0), (255,) * 3, 0),
    "PNG, grey and alpha": (encoded(Image.new("LA", (2, 2), (0, 0))), (255, 255, 255), 0),
    "PNG, profile": (encoded(Image.new("RGB", (4, 4), "red"), icc_profile=swapped_profile()), (0, 255, 0), 1),
    "PNG, sRGB profile": (encoded(NOISE, icc_profile=srgb_profile()), np.asarray(NOISE), 1),
    "PNG, profile and alpha": (
        encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), icc_profile=swapped_profile()),
        (127, 255, 127),
        1,
    ),
    "PNG, palette and profile": (
        encoded(Image.new("RGB", (4, 4), "red").convert("P", palette=1), icc_profile=swapped_profile()),
        (0, 255, 0),
        1,
    ),
    # 0.5 ** 1.0 of light is 188 in sRGB
    "PNG, linear grey": (encoded(Image.new("L", (4, 4), 128), icc_profile=grey_profile(1.0)), (188,) * 3, 1),
    "PNG, linear grey and alpha": (
        encoded(Image.new("LA", (4, 4), (128, 255)), icc_profile=grey_profile(1.0)),
        (188,) * 3,
        1,
    ),
    "PNG, profile of other pixels": (
        encoded(Image.new("L", (4, 4), 128), icc_profile=swapped_profile()),
        (128, 128, 128),
        0,
    ),
    "PNG, animated": (
        encoded(Image.new("RGB", (4, 4), "red"), save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")]),
        (255, 0, 0),
        0,
    ),
    "JPEG": (encoded(FLAT, "JPEG", quality=95), (200, 40, 90), 3),
    "JPEG, grey": (encoded(Image.new("L", (8, 8), 70), "JPEG"), (70, 70, 70), 1),
    "JPEG, CMYK": (encoded(FLAT.convert("CMYK"), "JPEG", quality=95), (200, 40, 90), 3),
    "JPEG, profile": (encoded(Image.new("RGB", (8, 8), "red"), "JPEG", icc_profile=swapped_profile()), (0, 255, 0), 3),
    "WebP": (encoded(NOISE, "WEBP", lossless=True), np.asarray(NOISE), 0),
    "WebP, clear": (encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "WEBP", lossless=True), (255, 255, 255), 0),
    "WebP, profile": (
        encoded(Image.new("RGB", (4, 4), "red"), "WEBP", lossless=True, icc_profile=swapped_profile()),
        (0, 255, 0),
        1,
    ),
    "GIF, first frame": (
        encoded(
            Image.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")]
        ),
        (255, 0, 0),
        0,
    ),
    "WebP, first frame": (
        encoded(
            Image.new("RGB", (4, 4), "red"),
            "WEBP",
            lossless=True,
            save_all=True,
            append_images=[Image.new("RGB", (4, 4), "blue")],
        ),
        (255, 0, 0),
        0,
    ),
    "BMP": (encoded(NOISE, "BMP"), np.asarray(NOISE), 0),
    "TIFF": (encoded(NOISE, "TIFF", compression="tiff_lzw"), np.asarray(NOISE), 0),
    "TIFF, CMYK": (encoded(FLAT.convert("CMYK"), "TIFF"), (200, 40, 90), 1),
    # L = 64 / 255 * 100 = 25.1 is 60 in sRGB; without the profile it would be cyan
    "TIFF, profile of inks": (
        encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF", icc_profile=inks_profile()),
        (60, 60, 60),
        2,
    ),
    "JPEG, profile of inks": (
        encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95, icc_profile=inks_profile()),
        (60, 60, 60),
        3,
    ),
    "TIFF, profile": (encoded(Image.new("RGB", (4, 4), "red"), "TIFF", icc_profile=swapped_profile()), (0, 255, 0), 1),
    "TIFF, LAB": (encoded(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF"), (255, 255, 255), 2),
    "PPM": (encoded(NOISE, "PPM"), np.asarray(NOISE), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_every_way_in_gives_what_people_see(case, tmp_path):
    content, expected, tolerance = CASES[case]
    first = np.asarray(open_image(content)).astype(int)
    assert np.abs(first - np.broadcast_to(expected, first.shape)).max() <= tolerance
    assert image_format(content) == case.partition(",")[0].upper()
    for way, source in ways_in(content, tmp_path):
        opened = open_image(source)
        assert (opened.mode, opened.info) == ("RGB", {}), way
        assert np.array_equal(np.asarray(opened), first), way
        sent = from_base64(encode(source), "image")  # as the client sends it and the server opens it
        sent = from_bytes(sent, 1 << 20, "image")
        assert np.array_equal(np.asarray(sent), first), way


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(format, orientation, tmp_path):
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format}")
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(NOISE, format, exif=exif(orientation), **options)
    plain = open_image(encoded(NOISE, format, **options))
    expected = np.asarray(turned(plain, orientation))
    for way, source in ways_in(content, tmp_path):
        assert np.array_equal(np.asarray(open_image(source)), expected), way


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """By the EXIF standard's own words: which side of the picture its first row and its first column are."""
    array = np.asarray(image)
    rows = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}[orientation]
    columns = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    if rows in ("left", "right"):
        array = array.swapaxes(0, 1)
        rows, columns = columns, rows
    array = array[::-1] if rows == "bottom" else array
    return Image.fromarray(np.ascontiguousarray(array[:, ::-1] if columns == "right" else array))


@pytest.mark.parametrize(
    "name", ["1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LA", "La", "PA", "LAB"]
)
def test_every_mode_of_pillow_has_a_meaning_here_and_through_the_client(name):
    if name == "LAB":
        spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(FLAT, *spaces, outputMode="LAB")
        expected = FLAT
    else:
        image = mode(name)
        expected = image.convert("RGBA" if name == "RGBa" else "LA" if name == "La" else name).convert("RGB")
    assert np.abs(np.asarray(open_image(image)).astype(int) - np.asarray(expected)).max() <= 2
    assert open_image(base64.b64decode(encode(image))).tobytes() == open_image(image).tobytes()


@pytest.mark.parametrize("name", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bits_keep_their_upper_eight(name):
    assert open_image(Image.new(name, (2, 2), 0x80FF)).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("name", ["I", "F"])
def test_pixels_without_a_range_are_refused(name):
    with pytest.raises(InputError, match=f"mode '{name}' have no known range; save it with 8 bits"):
        open_image(Image.new(name, (2, 2)))


def test_an_orientation_set_in_memory_counts_and_the_text_of_xmp_does_not():
    image = NOISE.copy()
    image.getexif()[0x0112] = 6
    assert open_image(image).tobytes() == NOISE.transpose(Image.Transpose.ROTATE_270).tobytes()
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = encoded(NOISE, "WEBP", lossless=True, xmp=xmp)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size == (24, 16)
    assert open_image(content).size == open_image(Image.open(io.BytesIO(content))).size == (16, 24)


def test_the_callers_picture_and_file_stay_as_they_are(tmp_path):
    image = Image.new("L", (4, 4), 3)
    image.info["transparency"] = "none"  # a text of a PNG file, not a colour
    open_image(image)
    assert image.info == {"transparency": "none"} and image.mode == "L"
    file = io.BytesIO(encoded(NOISE))
    file.seek(7)
    open_image(file)
    assert file.tell() == 7


@pytest.mark.parametrize("kind", ["PIL", "slow file", "file"])
def test_threads_may_share_a_picture(kind, tmp_path):
    """All threads start together on an object that nobody has decoded yet."""
    large = Image.fromarray(RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8))
    (tmp_path / "large.png").write_bytes(encoded(large))
    make = {
        "PIL": lambda: Image.open(tmp_path / "large.png"),
        "slow file": lambda: SlowFile((tmp_path / "large.png").read_bytes()),
        "file": lambda: (tmp_path / "large.png").open("rb"),
    }[kind]
    for _ in range(5):
        assert opened_together(make(), 8) == [large.tobytes()] * 8
    shared = Image.open(tmp_path / "large.png")
    assert len(set(pixel_hashes([shared] * 16))) == 1


class SlowFile(io.BytesIO):
    """Lets the other threads in between winding back and reading."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.005)
        return super().read(size)


def opened_together(shared: object, count: int) -> list[bytes]:
    start = threading.Barrier(count)

    def opened(_: int) -> bytes:
        start.wait()
        return open_image(shared).tobytes()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(opened, range(count)))


def test_a_record_takes_the_ways_in_that_it_can_keep(tmp_path):
    content = encoded(NOISE)
    for _, source in ways_in(content, tmp_path):
        record = Record("a cat", source)
        assert isinstance(record.image, str | bytes | Image.Image)
        assert record.open_image().tobytes() == NOISE.tobytes()


def test_splits_and_disjointness_may_share_a_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(NOISE))
    shared = Image.open(tmp_path / "a.png")
    records = [Record(f"prompt {n}", shared) for n in range(8)]
    with pytest.raises(InputError, match="1 separate prompts"):  # one picture ties all prompts together
        split_by_prompt(records, {"train": 0.5, "test": 0.5})
    with pytest.raises(InputError, match="8 images are"):
        check_disjoint([Record("other", Image.open(tmp_path / "a.png"))], records)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ({"bytes": b"x", "url": "y"}, r"fields \['url'\], expected a mapping \{bytes, path\}"),
        ({"bytes": "iVBORw0KGgo="}, "bytes of type str"),
        ({"path": 3}, "path of type int"),
        ({"path": "https://example.org/a.png"}, "is a URL"),
        (io.StringIO("text"), "opened in binary mode"),
        (bytearray(), "empty"),
        ("a\0b", "no such image file"),
        (3, "image is of type int"),
        (None, "image is of type NoneType"),
    ],
)
def test_what_holds_no_picture_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        open_image(source)


def test_closed_files_and_pipes_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: no such image file"):
        open_image(tmp_path / "pipe.png")
    file = io.BytesIO(encoded(NOISE))
    file.close()
    with pytest.raises(InputError, match="cannot be read: .*closed"):
        open_image(file)


def test_one_picture_where_a_list_is_expected_is_a_list_of_one(tmp_path):
    for _, source in ways_in(encoded(NOISE), tmp_path):
        assert as_list(source) == [source]
    assert as_list(("a", "b")) == ["a", "b"] and as_list(iter("ab")) == ["a", "b"]
    with pytest.raises(InputError, match="images is a int"):
        as_list(3)
