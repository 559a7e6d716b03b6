"""WebDataset shards: the samples that a plain reading with `tarfile` finds, read in place; damaged and hostile tars are named."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import file_state, load_records, open_records, save_records
from zreward.data.packed import PackedImage
from zreward.data.sources import Fields, Source, read_rows
from zreward.data.tar_files import members
from zreward.rubric import Rubric


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_state, "_SETTLED", 0)
    return tmp_path / "cache" / "zreward" / "records"


def png(shade: int, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (shade % 256, shade // 256, 7)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, files: Iterable[tuple[str, bytes]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(number: int, key: str = "") -> list[tuple[str, bytes]]:
    """As `rated` sees it: a prompt in the .txt of even numbers, in the .json of odd ones."""
    key = key or f"{number:06d}"
    about: dict[str, Any] = {"scores": {"realism": {"r1": 1 + number % 4}}, "split": "train" if number % 5 else "test"}
    about |= {"width": 4, "similarity": float("nan"), "tags": ["a"]}
    prompt = f"a cube, number {number}"
    text = [] if number % 2 else [(f"{key}.txt", f"{prompt}\n".encode())]
    about |= {"prompt": prompt} if number % 2 else {}
    return [(f"{key}.png", png(number)), *text, (f"{key}.json", json.dumps(about).encode()), (f"{key}.cls", b"3")]


def shards(folder: Path, counts: Iterable[int]) -> Path:
    number = 0
    for shard, count in enumerate(counts):
        write(folder / f"{shard:03d}.tar", [file for n in range(number, number + count) for file in sample(n)])
        number += count
    return folder


def plainly(folder: Path) -> list[tuple[str, bytes, str, dict]]:
    """(id, picture, prompt, scores) of all samples, by a reading that holds everything."""
    found = []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as archive:
            contents = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}  # type: ignore[union-attr]
        for name in [name for name in contents if name.endswith(".png")]:
            about = json.loads(contents[name[:-4] + ".json"])
            prompt = contents[name[:-4] + ".txt"].decode().strip() if "prompt" not in about else about["prompt"]
            found.append((f"{shard.stem}/{name[:-4]}", contents[name], prompt, about["scores"]))
    return found


NAMES = ("pool", "pool/*.tar", "pool/{000..002}.tar", "pool/{000,001,002}.tar")


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_of_shards_are_records(tmp_path, monkeypatch, name):
    expected = plainly(shards(tmp_path / "pool", (70, 1, 9)))
    monkeypatch.chdir(tmp_path)
    for records in (load_records(name), open_records(name), open_records(name), open_records(tmp_path / name)):
        seen = [(one.id, one.image.read(), one.prompt, dict(one.scores)) for one in records]  # type: ignore[union-attr]
        assert seen == expected
        assert records[5].open_image().getpixel((0, 0)) == (5, 0, 7) and records[79].tags == ("a",)
    assert len(open_records(name, Rubric.default(), split="test")) == 16
    assert [row.number for row in read_rows(name)] == list(range(80))


def test_pictures_stay_in_their_shard(tmp_path, cache):
    """The cache holds where they are, not what they are."""
    noise = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(noise, "PNG")
    write(
        tmp_path / "a.tar", [file for n in range(40) for file in ((f"{n}.png", noise.getvalue()), (f"{n}.txt", b"p"))]
    )
    records = open_records(tmp_path / "a.tar")
    kept = sum(path.stat().st_size for path in cache.rglob("*.arrow"))
    assert kept < len(noise.getvalue()) < 40 * len(noise.getvalue())
    image = records[3].image
    assert (
        isinstance(image, PackedImage) and str(image) == f"{tmp_path}/a.tar/3.png" and image.read() == noise.getvalue()
    )
    saved = save_records(records[:2], tmp_path / "two.parquet")
    assert [one.image for one in load_records(saved)] == [noise.getvalue()] * 2


def test_shards_are_read_again_when_one_changes_and_when_one_is_added(tmp_path):
    pool = shards(tmp_path / "pool", (3, 2))
    assert len(open_records(pool)) == 5
    write(pool / "000.tar", sample(7))
    assert [one.prompt for one in open_records(pool)] == ["a cube, number 7", "a cube, number 3", "a cube, number 4"]
    write(pool / "002.tar", sample(9))
    assert len(open_records(pool)) == 4
    (pool / "001.tar").unlink()
    assert len(open_records(pool)) == 2


KEYS = [
    ("000.png", "a/000.txt", None),
    ("a.b/000.png", "a.b/000.txt", "a.b/000"),
    ("./x/000.png", "./x/000.txt", "x/000"),
    ("x/000.PNG", "x/000.txt", "x/000"),
    ("000.seg.png", "000.txt", None),
]


@pytest.mark.parametrize(("picture", "text", "key"), KEYS)
def test_a_key_is_the_name_up_to_the_first_dot_with_its_folders(tmp_path, picture, text, key):
    write(tmp_path / "a.tar", [(picture, png(1)), (text, b"a cube")])
    rows = list(read_rows(tmp_path / "a.tar"))
    if key is None:
        assert all(row.data is None for row in rows)
    else:
        assert [(row.data or {})["id"] for row in rows] == [f"a/{key}"]


def test_prompts_pictures_and_ids_of_other_sets(tmp_path):
    about = {"caption": "a cube", "key": "0001", "prompt": "other", "tags": "x y", "id": 17, "group": 3}
    files = [
        ("0.jpg.png", b""),
        ("0.png", png(1)),
        ("0.webp", b"not read"),
        ("0.txt", b"text"),
        ("0.json", json.dumps(about).encode()),
    ]
    pool = str(write(tmp_path / "a.tar", [one for one in files if one[1]]))

    def row(prompt: str | None, image: str | None) -> tuple[Any, Any, str]:
        (found,) = read_rows(Source(pool, Fields(prompt, image)))
        return (found.data or {}).get("prompt"), (found.data or {}).get("id"), found.error

    assert row("caption", "png") == ("a cube", "17", "")
    assert row("txt", "png") == ("text", "17", "")
    assert "two prompts" in row(None, "png")[2] and "--prompt-field" in row(None, "png")[2]
    assert "2 pictures (png, webp)" in row("txt", None)[2]
    assert "no field 'label'" in row("label", "png")[2] and "caption, key" in row("label", "png")[2]
    assert "no picture" in row("txt", "bmp")[2]
    with pytest.raises(InputError, match=r"a.tar/0.webp: not an image"):
        load_records(Source(pool, Fields("txt", "webp")))


BAD = {
    "no prompt: neither a .txt": [("0.png", png(1))],
    "no picture: its members are txt": [("0.txt", b"a")],
    "two members of one extension": [("0.png", png(1)), ("0.png", png(1)), ("0.txt", b"a")],
    "more than 64 members": [(f"0.{n}", b"") for n in range(500)],
    "its key stands earlier in the shard": [*sample(0, "0"), *sample(1, "1"), ("0.txt", b"a")],
    ".json: not valid JSON": [("0.png", png(1)), ("0.json", b"{")],
    ".json: a list": [("0.png", png(1)), ("0.json", b"[]")],
    "not UTF-8": [("0.png", png(1)), ("0.txt", b"\xff\xfeab")],
    "prompt is empty": [("0.png", png(1)), ("0.txt", b" \n")],
    "expected a text of at most": [("0.png", png(1)), ("0.txt", b"a" * (1 << 23))],
    "truncated": [("0.png", png(1)[:-20]), ("0.txt", b"a")],
    "no Unicode text": [("\udcff.png", png(1)), ("\udcff.txt", b"a")],
    "expected a finite number": [("0.png", png(1)), ("0.txt", b"a"), ("0.json", b'{"scores": {"realism": NaN}}')],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_sample_is_named_and_can_be_skipped(tmp_path, reason):
    pool = write(tmp_path / "a.tar", [*sample(20), *BAD[reason], *sample(30)], format=tarfile.GNU_FORMAT)
    with pytest.raises(InputError) as told:
        open_records(pool)
    assert reason in str(told.value).replace("\n", " ") or reason.replace("not UTF-8", "UTF-16") in str(told.value)
    assert f"{pool}:" in str(told.value) and "--skip-bad" in str(told.value)
    assert [one.prompt for one in open_records(pool, skip_bad=True)][::3] in (
        ["a cube, number 20"],
        ["a cube, number 20", "a cube, number 30"],
    )
    assert (tmp_path / "a.tar.skipped.jsonl").exists()


def test_the_same_key_in_two_shards_is_two_samples(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "000.tar", sample(0))
    assert [one.id for one in load_records(f"{tmp_path}/{{a,b}}/000.tar")] == ["a/000/000000", "b/000/000000"]


def test_texts_of_other_shapes_are_not_the_set_s(tmp_path):
    """Folders, hidden files and other extensions are passed over."""
    files = [
        ("._0.png", b"x"),
        ("README", b"x"),
        ("0.png", png(1)),
        ("0.txt", b"a"),
        ("0.npy", b"x"),
        (".hidden/1.txt.gz", b""),
    ]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files[:-1]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [one.id for one in load_records(tmp_path / "a.tar")] == ["a/0"]


# --- damaged and hostile tars


def whole(folder: Path) -> bytes:
    return write(folder / "whole.tar", [file for n in range(3) for file in sample(n)]).read_bytes()


def header(name: str, kind: bytes, size: int = 0, content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


@pytest.mark.parametrize("cut", [1.0, 0.9, 0.62, 0.5])
def test_a_shard_that_was_cut_off_is_named_with_its_last_member(tmp_path, cut):
    content = whole(tmp_path)
    (tmp_path / "cut.tar").write_bytes(content[: int(cut * len(content.rstrip(b"\0")))])
    with pytest.raises(InputError, match=r"cut.tar: after '00000\d\.\w+': .*(cut off|end mark).*get it again"):
        load_records(tmp_path / "cut.tar")
    assert len(load_records(tmp_path / "cut.tar", skip_bad=True)) == (2 if cut > 0.8 else 1)


def test_every_place_of_a_cut_is_noticed(tmp_path):
    """Else rows would be lost in silence."""
    content = whole(tmp_path)
    used = len(content.rstrip(b"\0"))
    for cut in [*range(1, used + 400, 61), *range(512, used, 512)]:
        (tmp_path / "cut.tar").write_bytes(content[: min(cut, len(content))])
        with pytest.raises(InputError):
            list(members(str(tmp_path / "cut.tar")))
    (tmp_path / "cut.tar").write_bytes(content[: -(-used // 512) * 512 + 512])  # the end mark is one block
    assert len(list(members(str(tmp_path / "cut.tar")))) == 11


HOSTILE = {
    "symbolic link": header("l", tarfile.SYMTYPE),
    "hard link": header("l", tarfile.LNKTYPE),
    "a device": header("l", tarfile.CHRTYPE),
    "a pipe": header("l", tarfile.FIFOTYPE),
    "unknown type": header("l", b"Q"),
    "sparse": header("l", tarfile.GNUTYPE_SPARSE),
    "extended header of 1,000,000": header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 1_000_000, b"x" * 1_000_000),
    "chained": header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 1, b"x") * 3000,
    "cut off": header("0.png", tarfile.REGTYPE, 10**9, b"x"),
    "damaged header": b"x" * 512,
    "more follows": b"\0" * 1024 + header("0.png", tarfile.REGTYPE, 1, b"x"),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_what_is_no_file_is_refused(tmp_path, reason):
    good = header("a.txt", tarfile.REGTYPE, 1, b"a")
    (tmp_path / "a.tar").write_bytes(good + HOSTILE[reason] + b"\0" * 10240)
    with pytest.raises(InputError, match=f"(?s)a.txt.*{reason}"):
        list(members(str(tmp_path / "a.tar")))


SPARSE = [
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "9"},
    {"GNU.sparse.map": "0,1", "GNU.sparse.size": "5"},
    {"GNU.sparse.size": "5", "GNU.sparse.numblocks": "1"},
    {"size": "-512"},
    {"size": "99999999999"},
    {f"k{n}": "v" for n in range(3000)},
]


@pytest.mark.parametrize("fields", SPARSE)
def test_extended_headers_neither_hang_nor_lead_out_of_the_file(tmp_path, fields):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("0.png")
        info.size, info.pax_headers = 512, fields
        archive.addfile(info, io.BytesIO(b"1" * 512))
    try:
        for one in members(str(tmp_path / "a.tar")):
            assert 0 <= one.offset <= one.offset + one.size <= (tmp_path / "a.tar").stat().st_size
            assert len(fields) > 100  # only the harmless one is read
    except InputError:
        assert set(fields) & {"size", "GNU.sparse.size", "GNU.sparse.major"} or len(fields) > 100


def test_random_damage_ends_in_an_error_or_in_places_inside_the_file(tmp_path):
    rng, content, path = Random(0), whole(tmp_path), tmp_path / "bad.tar"
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(1, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
        try:
            for one in members(str(path)):
                assert 0 <= one.offset <= one.offset + one.size <= path.stat().st_size
        except InputError:
            continue


def test_compressed_shards_say_what_to_do(tmp_path):
    content = whole(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    (tmp_path / "b.tar").write_bytes(b"\x28\xb5\x2f\xfd" + content)
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "d.tar").write_bytes(b"")
    for name, reason in (
        ("a.tar.gz", "gzip.*gunzip"),
        ("b.tar", "zstd"),
        ("c.tar", "not a tar"),
        ("d.tar", "not a tar|empty"),
    ):
        with pytest.raises(InputError, match=f"{name}: .*({reason})"):
            load_records(tmp_path / name, skip_bad=True)


def test_a_shard_that_changes_under_a_run_is_named(tmp_path):
    records = load_records(shards(tmp_path / "pool", (3,)))
    os.truncate(tmp_path / "pool" / "000.tar", 600)
    with pytest.raises(InputError, match=r"000.tar/000002.png: .*ends inside it"):
        records[2].open_image()


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("pool/{000..003}.tar", r"pool/003.tar: no such file, and pool/\{000..003\}.tar asks for it"),
        ("pool/x*.tar", "no file matches"),
        ("pool/{000..9999999}.tar", "range of no, or more than"),
        ("pool/{2..1}.tar", "range of no"),
        (f"pool/{{0..{'9' * 5000}}}.tar", "neither a range"),  # more digits than int() takes
        ("pool/{a}.tar", "neither a range"),
        ("pool/*", "files of several kinds"),
        ("pool", "files of several kinds"),
    ],
)
def test_wrong_patterns(tmp_path, monkeypatch, pattern, reason):
    save_records(load_records(shards(tmp_path / "pool", (3, 2, 1))), tmp_path / "pool" / "all.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=reason):
        load_records(pattern)


def test_memory_does_not_grow_with_a_shard(tmp_path):
    peaks = []
    for count in (300, 3000):
        path = write(tmp_path / f"{count}.tar", [(f"{n}.txt", b"a") for n in range(count)])
        list(members(str(path)))
        tracemalloc.start()
        for _ in read_rows(path):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000  # a member that is held takes 1,000


def test_pipes_and_devices_among_shards_are_refused(tmp_path):
    for name in ("a.jsonl", "a.parquet", "a.tar"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        os.mkfifo(folder / name)  # opened, it would wait for a writer
        with pytest.raises(InputError, match=r"is a pipe"):
            load_records(folder)
        os.remove(folder / name)
        (folder / name).symlink_to("/dev/zero")
        with pytest.raises(InputError, match=r"is a device"):
            load_records(folder)
