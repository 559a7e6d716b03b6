"""Records that stay on disk: the same as those in memory, checked once, and checked again when something has changed."""

from __future__ import annotations

import gc
import io
import json
import multiprocessing
import os
import sqlite3
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import (
    Record,
    check_disjoint,
    file_state,
    images,
    load_records,
    open_records,
    record_cache,
    row_checks,
    save_records,
)
from zreward.data import fingerprint as fingerprints
from zreward.data.fingerprint import records_fingerprint
from zreward.data.record_table import RecordTable
from zreward.distribution import ScoreScale
from zreward.rubric import Dimension, Rubric

NARROW = Rubric(
    "narrow",
    "1",
    ScoreScale(1, 3.5, 0.5),
    dimensions=tuple(Dimension(name, name, "how is it", {1: "bad", 3: "good"}) for name in ("alignment", "realism")),
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """A cache folder of the test's own, and files that count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_state, "_SETTLED", 0)
    return tmp_path / "cache" / "zreward" / "records"


@pytest.fixture
def opened(monkeypatch) -> list[bytes]:
    """The contents of pictures that are decoded from now on."""
    seen: list[bytes] = []
    decode = images._of_bytes
    monkeypatch.setattr(images, "_of_bytes", lambda content, most: seen.append(content) or decode(content, most))
    return seen


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade % 256, shade // 256, 7)).save(file, "PNG")
    return file.getvalue()


def rated(count: int, first: int = 0) -> list[Record]:
    """Some rated by several people, some not at all; every field is used."""
    numbers = range(first, first + count)
    return [
        Record(
            f"a cube, number {n}",
            png(n),
            {"alignment": {"r1": 1 + n % 4, "r2": 2.5}, "realism": [3, 4]} if n % 3 else {},
            group=f"g{n // 2}" if n % 2 else None,
            split="train" if n % 5 else "test",
            rubric_version="1.0" if n % 7 else None,
            tags=("a", "b") if n % 2 else (),
            id=f"item {n}" if n % 4 else None,
        )
        for n in numbers
    ]


def with_files(folder: Path, count: int, first: int = 0) -> Path:
    """Records whose pictures are files."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for n, record in enumerate(rated(count, first)):
        assert isinstance(record.image, bytes)
        picture = folder / "images" / f"{n}.png"
        picture.write_bytes(record.image)
        records.append(replace(record, image=str(picture)))
    return save_records(records, folder / "rated.jsonl")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_they_are_the_records_that_load_records_returns(tmp_path, suffix):
    """Of more than two batches, so that rows of all of them are asked for."""
    data = save_records(
        [*rated(150), Record("p", png(9), {"realism": 3.0}, stds={"realism": 0.5})], tmp_path / f"r.{suffix}"
    )
    every = load_records(data)
    for records in (open_records(data), open_records(data)):  # as they are checked, and from the cache
        assert len(records) == 151 and list(records) == every
        assert [records[n] for n in (0, 63, 64, 127, 128, 150, -1)] == [
            every[n] for n in (0, 63, 64, 127, 128, 150, -1)
        ]
        assert list(records[60:130]) == every[60:130] and list(records[3::50]) == every[3::50]
        assert list(records[::-1]) == every[::-1] and list(records[10:100][5:70][-1:]) == every[79:80]
        assert records_fingerprint(records, ratings=True) == records_fingerprint(every, ratings=True)
        with pytest.raises(IndexError):
            records[151]
    train = open_records(data, Rubric.default(), split="train")
    assert list(train) == load_records(data, Rubric.default(), split="train")


def test_small_and_large_pictures_keep_their_order_and_damaged_ones_their_line(tmp_path):
    """Chunks of small embedded pictures are checked without threads."""
    file = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(file, "PNG")
    assert len(file.getvalue()) > row_checks._SMALL > len(png(3))
    records = rated(200)
    records[70] = replace(records[70], image=file.getvalue())
    data = save_records(records, tmp_path / "r.parquet")
    assert list(open_records(data)) == load_records(data) == records
    for row in (3, 71):  # in a chunk without threads, and in one with them
        records[row] = replace(records[row], image=png(row)[:-30])
    save_records(records, data)
    for read in (load_records, open_records):
        with pytest.raises(InputError, match=r":row 3: .*truncated.*\n.*:row 71: .*truncated.*\n2 bad lines"):
            read(data)


def test_a_record_that_is_kept_is_not_made_twice(tmp_path):
    """Training groups the dimensions of a picture by its record."""
    records = open_records(with_files(tmp_path, 70))
    kept = records[65]
    assert records[65] is kept and list(records)[65] is kept and records[60:][5] is kept


def test_pictures_are_decoded_once_and_for_all_launches(tmp_path, opened):
    data, other = with_files(tmp_path / "a", 30), with_files(tmp_path / "b", 5, first=1000)
    records = open_records(data)
    assert len(opened) == 30
    again, test = open_records(data), open_records(other)
    assert len(opened) == 35
    records_fingerprint(again)
    check_disjoint(again, test)
    assert len(opened) == 35 and list(again) == list(records)


def test_digests_come_from_the_check(tmp_path, monkeypatch):
    records = open_records(with_files(tmp_path, 10))
    expected = records_fingerprint(list(records))
    monkeypatch.setattr(fingerprints, "file_digest", lambda path: pytest.fail(f"{path} is read again"))
    assert records_fingerprint(records) == expected


def test_a_changed_picture_is_opened_again(tmp_path, opened):
    data = with_files(tmp_path, 10)
    before = records_fingerprint(open_records(data))
    picture = Path(str(open_records(data)[3].image))
    state = os.stat(picture)
    picture.write_bytes(png(1003))
    os.utime(picture, ns=(state.st_atime_ns, state.st_mtime_ns))  # the date that it had, and the size
    opened.clear()
    assert records_fingerprint(open_records(data)) != before and len(opened) == 10
    picture.write_bytes(png(3)[:-20])
    with pytest.raises(InputError, match=rf"rated\.jsonl:4: {picture}: broken or truncated image"):
        open_records(data)
    picture.unlink()
    with pytest.raises(InputError, match=r"rated\.jsonl:4: .*: no such image file"):
        open_records(data)


def test_a_changed_line_is_read_again(tmp_path):
    data = with_files(tmp_path, 10)
    open_records(data)
    data.write_text(data.read_text().replace("number 3", "number 4"))
    assert open_records(data)[3].prompt == "a cube, number 4"


def test_a_file_that_changed_just_now_is_not_relied_on(tmp_path, opened, monkeypatch):
    """It may change once more within a tick of the clock, and keep its size."""
    data = with_files(tmp_path, 10)
    monkeypatch.setattr(file_state, "_SETTLED", 3600 * 10**9)
    assert len(open_records(data)) == len(open_records(data)) == 10
    assert len(opened) == 20


def test_other_options_are_other_records(tmp_path):
    data = save_records([Record("p", png(1), {"charm": 3.0})], tmp_path / "charm.jsonl")
    assert len(open_records(data)) == 1
    with pytest.raises(InputError, match="unknown dimension 'charm'"):
        open_records(data, Rubric.default())
    with pytest.raises(InputError, match="no record of split 'dev'; its records name no split at all"):
        open_records(data, split="dev")


@pytest.mark.parametrize("first", [None, Rubric.default()], ids=["labelled first", "trained first"])
def test_labels_and_training_check_pictures_once(tmp_path, opened, first):
    """The first has no rubric, the second has one, and may skip bad lines; of either only what differs is looked at anew."""
    data, rubric = with_files(tmp_path, 20), Rubric.default()
    open_records(data, first)
    assert len(opened) == 20
    for options in ({}, {"rubric": rubric}, {"rubric": rubric, "skip_bad": True}, {"skip_bad": True}):
        assert list(open_records(data, **options)) == load_records(data, check_images=None)
    assert len(opened) == 20
    for _ in range(2):
        assert len(open_records(data, NARROW, skip_bad=True)) == 7 and len(opened) == 27
    assert len(open_records(data)) == 20 and len(opened) == 27


def test_ratings_that_do_not_fit_are_refused_from_the_cache_too(tmp_path):
    """Also those of another split, whose records are not kept."""
    rows = [Record("p", png(1), {"realism": 5.0}, split="dev"), Record("q", png(2), {"realism": 2.0}, split="train")]
    data = save_records(rows, tmp_path / "r.jsonl")
    assert len(open_records(data, split="train")) == 1
    for split in ("train", None):
        with pytest.raises(InputError, match=r"r\.jsonl:1: score of 'realism' .*5"):
            open_records(data, NARROW, split=split)


def test_too_many_ratings_are_read_again_for_a_rubric(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(record_cache, "_MOST_RATINGS", 3)
    data = with_files(tmp_path, 10)
    open_records(data)
    open_records(data, Rubric.default())
    assert len(opened) == 20


def test_a_damaged_cache_is_made_again(tmp_path, cache, opened):
    data = with_files(tmp_path, 10)
    open_records(data)
    for name, content in (
        ("records.arrow", b"ARROW1"),
        ("records.arrow", b""),
        ("facts.json", b"{}"),
        ("facts.json", b"["),
    ):
        (file,) = cache.glob(f"*/{name}")
        file.write_bytes(content)
        opened.clear()
        assert list(open_records(data)) == load_records(data, check_images=False) and len(opened) == 10


def rewritten(file: Path, content: bytes) -> None:
    """The same file with another content and the date that it had, as a failing disk leaves it."""
    state = os.stat(file)
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def _read_damaged(data: Path, file: Path, content: bytes) -> None:
    for seed in range(80):
        changed, places = bytearray(content), Random(seed)
        for _ in range(places.choice([1, 3, 20])):
            changed[places.randrange(len(content))] = places.randrange(256)
        rewritten(file, changed)
        with suppress(pa.ArrowException, OSError, ValueError):
            assert list(RecordTable(file).whole)


def test_a_table_with_wrong_bytes_does_not_end_the_process(tmp_path, cache):
    """pyarrow follows offsets without looking: of eighty such tables, several were a segmentation fault."""
    data = with_files(tmp_path, 200)
    open_records(data)
    (file,) = cache.glob("*/records.arrow")
    reader = multiprocessing.get_context("fork").Process(target=_read_damaged, args=(data, file, file.read_bytes()))
    reader.start()
    reader.join()
    assert reader.exitcode == 0


def test_a_table_that_was_written_to_is_made_again(tmp_path, cache, opened):
    """Scores that somebody changed there are not trained on."""
    data = with_files(tmp_path, 10)
    open_records(data)
    (file,) = cache.glob("*/records.arrow")
    file.write_bytes(file.read_bytes().replace(b"number 3", b"number 8"))
    opened.clear()
    assert open_records(data)[3].prompt == "a cube, number 3" and len(opened) == 10


@pytest.mark.parametrize("facts", [{"good": None}, {"table": None}, {"bad": [[1]]}, {"state": 7}, {"ratings": [1]}])
def test_facts_with_wrong_values_are_made_again(tmp_path, cache, opened, facts):
    data = with_files(tmp_path, 10)
    open_records(data, Rubric.default())
    (file,) = cache.glob("*/facts.json")
    right = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in {**right, **facts}.items() if value is not None}))
    opened.clear()
    assert len(open_records(data, Rubric.default())) == len(opened) == 10


def test_what_another_user_put_into_the_cache_is_not_read(tmp_path, cache, opened, monkeypatch):
    """Nor replaced: a shared folder may not allow it."""
    data = with_files(tmp_path, 10)
    open_records(data)
    me, (folder,) = record_cache._user(), cache.glob("*/")
    monkeypatch.setattr(record_cache, "_user", lambda: me + 1)
    open_records(data)  # another user's own folder, by its name
    theirs = next(each for each in cache.glob("*/") if each != folder)
    before = os.stat(theirs)
    opened.clear()
    assert len(open_records(data)) == len(opened) == 10  # its owner is not who it is named after
    assert os.path.samestat(os.stat(theirs), before) and len(list(cache.glob("*/"))) == 2


def test_a_lock_that_cannot_be_opened(tmp_path, cache, opened):
    data = with_files(tmp_path, 10)
    open_records(data)
    (lock,) = cache.glob("*.lock")
    lock.unlink()
    lock.mkdir()
    opened.clear()
    assert len(open_records(data)) == len(opened) == 10


def test_a_user_without_a_home(tmp_path, monkeypatch):
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    data = with_files(tmp_path, 3)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(record_cache.Path, "home", home)
    assert list(open_records(data)) == load_records(data)


def test_a_full_folder_of_temporary_files(tmp_path, monkeypatch):
    connect = sqlite3.connect

    def small(*arguments, **options):
        table = connect(*arguments, **options)
        table.execute("PRAGMA max_page_count = 4")
        return table

    data = save_records([replace(record, id=f"{n:0500}") for n, record in enumerate(rated(60))], tmp_path / "r.parquet")
    monkeypatch.setattr(sqlite3, "connect", small)
    for read in (load_records, open_records):
        with pytest.raises(
            InputError, match=r"ids of the records cannot be noted there .*full\); free disk space, .* in TMPDIR"
        ):
            read(data)


def test_without_a_cache_folder_records_are_checked_every_time(tmp_path, monkeypatch, opened):
    data = with_files(tmp_path, 10)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list(open_records(data)) == list(open_records(data)) == load_records(data)
    assert len(opened) == 30


def test_what_is_kept_of_data_that_is_gone_is_removed(tmp_path, cache):
    data, other = with_files(tmp_path / "a", 2), with_files(tmp_path / "b", 3)
    records = open_records(data)
    kept = list(records)
    assert len(list(cache.glob("*/records.arrow"))) == 1
    data.unlink()
    open_records(other)
    assert len(list(cache.glob("*/records.arrow"))) == 1
    assert list(records) == kept  # whoever has them open keeps them


def skipped(data: Path) -> list[dict]:
    return [json.loads(line) for line in Path(f"{data}.skipped.jsonl").read_text("utf-8").splitlines()]


def test_skipped_lines_are_reported_by_every_launch_and_read_again_when_mended(tmp_path, capsys, opened):
    data = with_files(tmp_path, 4)
    lines = data.read_text().splitlines()
    missing = tmp_path / "images" / "late.png"
    row = json.loads(lines[0]) | {"image": str(missing), "id": "late"}
    data.write_text("\n".join([*lines, "{", json.dumps(row)]) + "\n")
    for count in (4, 4):
        assert [record.prompt for record in open_records(data, skip_bad=True)] == [
            json.loads(x)["prompt"] for x in lines
        ]
        assert "skipped 2 of 6 lines" in capsys.readouterr().err
        assert [(row["line"], row["text"][:1]) for row in skipped(data)] == [(5, "{"), (6, "{")]
        assert len(opened) == count
        Path(f"{data}.skipped.jsonl").unlink()
    missing.write_bytes(png(99))
    assert open_records(data, skip_bad=True)[-1].id == "late"
    assert [row["line"] for row in skipped(data)] == [5]
    with pytest.raises(InputError, match="5: .*not valid JSON"):
        open_records(data)


def test_check_disjoint_names_what_it_names_for_lists(tmp_path):
    """Also where a picture is in the training data twice: the last of them is named."""
    train, test = rated(8), rated(4, first=100)
    train += [Record("another prompt", png(2), id="twin")]
    test[1] = Record("a third prompt", png(2), id="copy")
    files = [save_records(part, tmp_path / f"{n}.parquet") for n, part in enumerate((train, test))]
    wanted = r"^1 image is \(twin of 'another prompt' = copy of 'a third prompt'\) in both train and test"
    for first, second in ((train, test), tuple(map(open_records, files)), (train, open_records(files[1]))):
        with pytest.raises(InputError, match=wanted):
            check_disjoint(first, second)
    same = save_records([*test[:1], Record(train[3].prompt.upper(), png(500))], tmp_path / "same.parquet")
    with pytest.raises(InputError, match=r"^1 prompt is \(A CUBE, NUMBER 3\) in both"):
        check_disjoint(open_records(files[0]), open_records(same))


def _open(data: Path, answers) -> None:
    count = 0
    decode = images._of_bytes

    def counted(content, most):
        nonlocal count
        count += 1
        return decode(content, most)

    images._of_bytes = counted
    answers.put((len(open_records(data)), count))


def test_processes_that_start_together_check_once(tmp_path):
    data, context = with_files(tmp_path, 40), multiprocessing.get_context("fork")
    answers = context.Queue()
    started = [context.Process(target=_open, args=(data, answers)) for _ in range(3)]
    for one in started:
        one.start()
    found = [answers.get(timeout=60) for _ in started]
    for one in started:
        one.join()
    assert [count for count, _ in found] == [40] * 3 and sorted(count for _, count in found) == [0, 0, 40]


def peak_of(work) -> int:
    """Bytes that Python allocates at the most while `work` runs."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Two files, one four times as long: checked, opened again, read through, compared with a third, and read here and there.

    A record in memory takes about 2,000 bytes, its picture 80.
    """
    dev = save_records(rated(2, first=30_000), tmp_path / "dev.parquet")

    def work(data: Path) -> None:
        records = open_records(data)
        records_fingerprint(records, ratings=True)
        check_disjoint(records, open_records(dev))
        assert sum(len(record.prompt) for record in records) > 0
        assert all(records[n].prompt for n in range(0, len(records), 7))

    peaks = {}
    for count in (200, 1000, 4000):  # the first warms caches up
        data = save_records(rated(count), tmp_path / f"{count}.parquet")
        calls = (
            lambda data=data: open_records(data),
            lambda data=data: work(data),
            lambda data=data: load_records(data),
        )
        peaks[count] = [peak_of(call) for call in calls]
    first, again, held = (many - few for few, many in zip(peaks[1000], peaks[4000], strict=True))
    assert held > 3000 * 1000  # the measure sees rows that are held
    assert first < 3000 * 200 and again < 3000 * 200  # threads and the collector are not exact
