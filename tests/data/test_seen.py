"""What was seen is found again: prompts in other words' clothes, recompressed and resized pictures; a clean set is not."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from tests.bench.inputs import picture
from zreward.common.errors import InputError
from zreward.data import looks as looks_module
from zreward.data import seen as seen_module
from zreward.data.looks import (
    COLOURS,
    NEAR_ALL,
    NEAR_COLOURS,
    NEAR_FIRST,
    WORDS,
    Looks,
    bit_count,
    looks_of,
    near_duplicates,
)
from zreward.data.seen import find_overlap, load_seen, prompt_key, save_seen, seen_of

needs_library = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("imagehash"), reason="ImageHash is not installed: zreward[overlap]"
)


def copied(image: Image.Image, size: tuple[int, int], quality: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, kind, quality=quality)
    return buffer.getvalue()


@needs_library
def test_copies_are_found_and_other_pictures_are_not():
    known = [picture(n, 96) for n in range(40)]
    seen = seen_of(["a prompt"], [looks_of(known)])
    copies = [copied(known[3], (48, 48), 50), copied(known[7], (200, 150), 80), copied(known[9], (80, 64), 80, "WEBP")]
    others = [picture(1000 + n, 96) for n in range(40)]
    found = find_overlap(seen, [], [*others, *copies])
    assert found.pictures == (40, 41, 42)
    assert not find_overlap(seen, ["another prompt"], others)
    turned = Image.merge("RGB", known[3].split()[::-1])  # the same drawing in other colours is another picture
    assert not find_overlap(seen, [], [turned])


@needs_library
def test_what_is_said_of_an_overlap():
    seen = seen_of(["A  Red\tcircle", "x"], [looks_of([picture(0)])])
    found = find_overlap(seen, ["a red CIRCLE", "a blue square"], [picture(0), picture(1)])
    assert found.describe(["0.png", "1.png"]) == "1 of 2 prompts ('a red CIRCLE') and 1 of 2 pictures ('0.png')"
    assert find_overlap(seen, ["y"], []).describe([]) == "none of 1 prompts and 0 pictures"


def test_prompts_that_differ_in_case_space_and_unicode_form_are_one():
    assert prompt_key("Café  on A hill") == prompt_key("cafe\u0301 ON a hill ")
    assert prompt_key("a cafe on a hill") != prompt_key("a café on a hill")
    seen = seen_of(["one", "ONE", "two"], [None])
    assert seen.counts() == {"prompts": 2, "pictures": None}
    found = find_overlap(seen, ["Two", "three"], [picture(1)])
    assert found.prompts == ("Two",) and found.pictures is None  # pictures are unknown


def drawn(count: int, seed: int) -> Looks:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (count, WORDS), np.uint64)
    return Looks(hashes, rng.integers(0, 256, (count, COLOURS)).astype(np.uint8))


def disturbed(looks: Looks, seed: int) -> Looks:
    """Copies at every distance around the limits."""
    rng = random.Random(seed)
    hashes, colours = looks.hashes.copy(), looks.colours.astype(int)
    for row in range(len(hashes)):
        for bit in rng.sample(range(64), rng.choice([0, 5, 6, 7, 8, 9])):
            hashes[row, 0] ^= np.uint64(1 << bit)
        for bit in rng.sample(range(192), rng.choice([0, 30, 40, 41, 42, 43])):
            hashes[row, 1 + bit // 64] ^= np.uint64(1 << (bit % 64))
        colours[row] = np.clip(colours[row] + rng.choice([0, 3, 4, 5]), 0, 255)
    return Looks(hashes, colours.astype(np.uint8))


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_what_a_comparison_of_all_pairs_finds(seed, monkeypatch):
    known = drawn(80, seed)
    pictures = Looks.cat([drawn(30, seed + 10), disturbed(known, seed)])
    monkeypatch.setattr(looks_module, "_BLOCK", 64)  # several blocks

    def same(i: int, j: int) -> bool:
        bits = [bin(int(a) ^ int(b)).count("1") for a, b in zip(pictures.hashes[i], known.hashes[j], strict=True)]
        shades = [abs(int(a) - int(b)) for a, b in zip(pictures.colours[i], known.colours[j], strict=True)]
        return bits[0] <= NEAR_FIRST and sum(bits) <= NEAR_ALL and sum(shades) / COLOURS <= NEAR_COLOURS

    expected = [[j for j in range(len(known)) if same(i, j)] for i in range(len(pictures))]
    found = near_duplicates(pictures, known).tolist()
    assert 0 < sum(map(bool, expected)) < 80
    assert all(twin in twins if twins else twin == -1 for twin, twins in zip(found, expected, strict=True))


def test_bits_are_counted_alike_without_numpy_2(monkeypatch):
    numbers = drawn(9, 0).hashes
    counted = bit_count(numbers)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert (bit_count(numbers) == counted).all() and counted[0, 0] == bin(int(numbers[0, 0])).count("1")


def test_stored_and_merged(tmp_path):
    from zreward.data.seen import SeenData

    first = SeenData(np.array([1, 2**63 + 5], np.uint64), drawn(4, 1))
    save_seen(first, tmp_path / "a.parquet")
    again = load_seen(tmp_path / "a.parquet")
    assert (again.prompts == first.prompts).all() and again.pictures is not None
    assert (again.pictures.hashes == first.pictures.hashes).all() and (
        again.pictures.colours == first.pictures.colours
    ).all()
    both = again.merged(SeenData(np.array([1, 7], np.uint64), Looks.cat([drawn(4, 1), drawn(2, 2)])))
    assert both.counts() == {"prompts": 3, "pictures": 6}  # those of seed 1 once
    unknown = first.merged(SeenData(np.array([7], np.uint64), None))
    assert unknown.counts() == {"prompts": 3, "pictures": None}
    save_seen(unknown, tmp_path / "b.parquet")
    assert load_seen(tmp_path / "b.parquet").pictures is None


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_what_is_stored_in_several_parts_is_whole(tmp_path, monkeypatch, rows):
    """Twelve pictures of which two are twice, in any order, against a plain set of their bytes."""
    monkeypatch.setattr(seen_module, "_ROWS", rows)
    looks = drawn(10, 3)
    looks = Looks.cat([looks[np.array([4, 0])], looks])
    texts = [f"prompt {n % 7}" for n in range(12)]
    save_seen(seen_of(texts, [looks, Looks.none()]), tmp_path / "seen.parquet")
    found = load_seen(tmp_path / "seen.parquet")
    assert found.prompts.tolist() == sorted({prompt_key(text) for text in texts})
    assert found.pictures is not None
    wanted = sorted({row.tobytes() + look.tobytes() for row, look in zip(looks.hashes, looks.colours, strict=True)})
    stored = [
        row.tobytes() + look.tobytes() for row, look in zip(found.pictures.hashes, found.pictures.colours, strict=True)
    ]
    assert len(wanted) == 10 and stored == wanted


def test_a_file_in_one_part_with_nulls_is_read_as_before(tmp_path):
    """Prompts first, without pictures, as older versions wrote them."""
    import pyarrow as pa

    looks = drawn(3, 5)
    columns = {f"hash_{n}": pa.array([None, None, *looks.hashes[:, n].tolist()], pa.uint64()) for n in range(WORDS)}
    columns["colours"] = pa.array([None, None, *(row.tobytes() for row in looks.colours)], pa.binary())
    columns["prompt"] = pa.array([9, 4, None, None, None], pa.uint64())
    found = load_seen(written(tmp_path / "old.parquet", **columns))
    assert found.prompts.tolist() == [4, 9] and found.pictures is not None
    assert (found.pictures.hashes == looks.hashes).all() and (found.pictures.colours == looks.colours).all()


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet: .*expected hashes of training data"):
        load_seen(tmp_path / "x.parquet")


def written(path, **changed):
    """A file as `save_seen` writes it, of two prompts and two pictures, with other columns in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"hash_{word}": pa.array([1, 2], pa.uint64()) for word in range(WORDS)}
    columns |= {"prompt": pa.array([1, 2], pa.uint64()), "colours": pa.array([b"x" * COLOURS] * 2), **changed}
    pq.write_table(pa.table(columns).replace_schema_metadata({"version": "1", "pictures": "True"}), path)
    return path


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prompt": [{"a": 1}, {"a": 2}]}, "column prompt holds struct.*not uint64"),
        ({"prompt": [float("nan"), -1.0]}, "column prompt holds double"),
        ({"hash_3": ["1", "2"]}, "column hash_3 holds string"),
        ({"colours": ["x" * COLOURS] * 2}, "colours of another size"),
        ({"colours": [b"x" * 24, b"x" * 72]}, "colours of another size"),
        ({"colours": [b"x" * COLOURS, None]}, "colours of 1 pictures, and hashes of 2"),
    ],
)
def test_columns_of_something_else(tmp_path, changed, reason):
    assert load_seen(written(tmp_path / "good.parquet")).counts() == {"prompts": 2, "pictures": 2}
    with pytest.raises(InputError, match=f"{reason}.*fetch the checkpoint again"):
        load_seen(written(tmp_path / "x.parquet", **changed))


def test_one_row_over_and_over_is_refused_before_it_is_read(tmp_path):
    import pyarrow as pa

    many = pa.array(np.full(1_000_000, 7, np.uint64))
    columns = {"prompt": many, "colours": pa.nulls(len(many), pa.binary())}
    columns |= {f"hash_{word}": many for word in range(WORDS)}
    with pytest.raises(InputError, match=r"1,000,000 rows in [\d,]+ bytes"):
        load_seen(written(tmp_path / "x.parquet", **columns))


def test_a_folder_or_device_in_its_place(tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    written(tmp_path / "folder.parquet" / "a.parquet")
    (tmp_path / "device.parquet").symlink_to("/dev/zero")
    for name, kind in (("folder", "a folder"), ("device", "a device")):
        with pytest.raises(InputError, match=f"{name}.parquet: is {kind}"):
            load_seen(tmp_path / f"{name}.parquet")
