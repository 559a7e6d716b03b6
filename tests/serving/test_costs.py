"""What a request costs is known before it is paid, and what is too dear is refused with numbers, undecoded."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import replace

import pytest
from PIL import Image

from tests.serving.running import png, text
from zreward.common.errors import InputError
from zreward.models.pixels import DEFAULT_PATCHES, ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.serving import decoding
from zreward.serving.costs import Prices, TooMuch
from zreward.serving.decoding import from_base64, measure
from zreward.serving.settings import Settings

PROMPT = "a red circle"


@pytest.fixture
def prices(model, monkeypatch) -> Prices:
    """With a decoder that must not be called."""
    monkeypatch.setattr(decoding, "open_image", lambda *_: pytest.fail("a picture was decoded"))
    return Prices(model, Settings(max_batch=4, max_request_pixels=2 * 4096 * 4096))


def black(width: int, height: int) -> bytes:
    """A PNG of black pixels: a kilobyte or two, whatever its size."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG", optimize=True)
    return file.getvalue()


def header_only(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def test_tokens_are_those_that_the_model_sees(model):
    prices = Prices(model, Settings())
    for width, height in ((32, 32), (33, 47), (1, 1), (5, 200)):
        opened = model.open(Image.new("RGB", (width, height)))
        assert prices.image_tokens(height, width) == model.layout.tokens(model.layout.grid(opened))


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (4096, 4096, "4096 x 4096 becomes 4,096 tokens .* at most 1,280"),
        (4097, 4096, "more than 16,777,216 pixels"),
        (2**31 - 1, 2**31 - 1, "more pixels than any limit allows"),
        (1, 60_000, "1 x 60000|aspect|side"),  # a strip, enlarged to whole patches
        (60_000, 1, "60000 x 1|aspect|side"),
    ],
)
def test_a_picture_that_costs_too_much_is_refused_by_its_header(prices, width, height, words):
    with pytest.raises((TooMuch, InputError), match=words):
        prices.price([header_only(width, height)], [PROMPT])


def test_pixels_count_over_a_request(model):
    small = Prices(_with_limit(model, 64), Settings(max_request_pixels=3 * 4096**2))
    picture = black(4096, 4096)
    assert small.price([picture] * 3, [PROMPT] * 3).pixels == 3 * 4096**2
    with pytest.raises(
        TooMuch, match="the images up to image 3 have 67,108,864 pixels together; send at most 50,331,648"
    ):
        small.price([picture] * 4, [PROMPT] * 4)


def _with_limit(model, longest_side: int):
    limited = RewardModel.__new__(RewardModel)
    limited.__dict__.update(model.__dict__ | {"resolution": ResolutionPolicy(longest_side=longest_side)})
    return limited


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        ("word " * 8000, TooMuch, "prompt 0 has 40,000 bytes; expected at most 16,384"),
        ("red " * 1500, TooMuch, "prompt 0 has 1,5.. tokens; the server takes at most 1,024"),
        ("\u2713" * 16_000, TooMuch, "48,000 bytes"),
        ("half \ud800", InputError, "surrogate pair"),
        (" \n", InputError, "blank"),
        ("\u200b", InputError, "blank"),
    ],
)
def test_prompts_are_bounded_by_bytes_then_by_tokens(prices, prompt, error, words):
    with pytest.raises(error, match=words):
        prices.price([black(8, 8)], [prompt])


def test_items_are_counted_first(prices):
    with pytest.raises(TooMuch, match="300,000 images in one request; send at most 4"):
        prices.price([b""] * 300_000, [""] * 300_000)


def test_a_picture_shown_many_times_counts_each_time(model):
    prices = Prices(model, Settings(max_body=10_000))
    with pytest.raises(TooMuch, match="images of .* bytes in one request; send at most 10,000"):
        prices.price([png(Image.new("RGB", (32, 32))) + bytes(4000)] * 3, [PROMPT] * 3)


def test_quick_is_what_costs_about_as_little_as_a_request_can(model):
    prices = Prices(model, Settings())
    small = png(Image.new("RGB", (32, 32)))
    assert prices.price([small], [PROMPT]).quick
    assert not prices.price([small] * 3, [PROMPT] * 3).quick
    assert not prices.price([png(Image.new("RGB", (256, 256)))], [PROMPT]).quick
    assert not prices.price([small], ["red " * 500]).quick
    assert not Prices(_with_limit(model, 32), Settings()).price([black(1024, 1024)], [PROMPT]).quick  # to decode


def test_a_rubric_that_is_read_once_costs_a_request_nothing(model):
    """A short opening is read with every item."""
    network = model.backbone.model
    long = replace(model.forms, system=" judge the image ." * 100)

    def tokens(forms) -> int:
        asking = RewardModel(network, model.tokenizer, model.rubric, forms, model.resolution)
        return Prices(asking, Settings()).price([black(32, 32)], [PROMPT]).tokens

    assert tokens(long) < tokens(replace(long, system="")) < tokens(model.forms)


def test_a_models_own_limit_counts(model):
    assert Prices(model, Settings()).most_image_tokens == 1280
    assert Prices(model, Settings(max_image_tokens=9000)).most_image_tokens == 9000
    large = Prices(_with_limit(model, 512), Settings()).most_image_tokens
    assert large == 64 * 64  # 512 x 512 pixels at 8 x 8 a token


def jpeg(scans: int) -> bytes:
    """A progressive JPEG whose last scan stands `scans` times more."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused():
    assert measure(jpeg(0), "image 0") == (64, 64)
    with pytest.raises(InputError, match="image 0: a JPEG of more than 64 scans"):
        measure(jpeg(100), "image 0")


def test_formats_that_python_would_decode_are_refused():
    with pytest.raises(InputError, match="not an image that can be read"):
        measure(b"P3 1 1 255 0 0 0", "image 0")
    rle = io.BytesIO()
    Image.new("P", (4, 4)).save(rle, "BMP")
    compressed = bytearray(rle.getvalue())
    compressed[30:34] = (1).to_bytes(4, "little")
    with pytest.raises(InputError, match="run-length encoded BMP"):
        measure(bytes(compressed), "image 0")


@pytest.mark.parametrize("junk", ["%%%", "A", "AAA", "AAAA\n", "AA==AA==", "\u2713AAA", " AAAA"])
def test_what_is_no_base64_is_refused(junk):
    with pytest.raises(InputError, match="image 0 is not base64"):
        from_base64(junk, "image 0")


@pytest.mark.parametrize("size", [2**20 // 4 * 3, 2**20, 3 * 2**20 + 1, 3 * 2**20 + 2])
def test_long_base64_is_decoded_in_pieces(size):
    encoded = bytes(range(251)) * (size // 251 + 1)
    assert from_base64(base64.b64encode(encoded[:size]).decode(), "image 0") == encoded[:size]


def test_data_uris_are_taken_and_urls_are_not():
    picture = Image.new("RGB", (2, 2))
    assert from_base64("data:image/png;base64," + text(picture), "image 0") == png(picture)
    with pytest.raises(InputError, match="image 0 is a URL"):
        from_base64("https://example.org/a.png", "image 0")


def test_nothing_is_computed_to_price_a_picture(model):
    """Whatever would have to be allocated: 2^40 pixels."""
    assert Prices(model, Settings()).image_tokens(2**20, 2**20) == DEFAULT_PATCHES
