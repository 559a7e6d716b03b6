"""Large pictures inside rows: fewer rows at a time are in memory, and what comes out is the same."""

from __future__ import annotations

import io
import subprocess
import sys
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zreward.data import (
    Record,
    load_records,
    open_records,
    parquet_batches,
    record_table,
    row_checks,
    save_records,
    writing,
)
from zreward.data.importers import rows as imported
from zreward.data.record_table import RecordTable
from zreward.data.rows import SourceRow
from zreward.data.together import together
from zreward.training.pictures import PicturesOf

COUNT = 150


def encoded(number: int, side: int) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(content, "PNG", compress_level=0)
    return content.getvalue()


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Pictures of 1 to 100 KiB in rows, in row groups of 40."""
    sizes = Random(0)
    rows = [
        {
            "prompt": f"p {n}",
            "image": {"bytes": encoded(n, sizes.randint(16, 180)), "path": None},
            "image.bytes": b"x" * 4096,
        }
        for n in range(COUNT)
    ]
    file = tmp_path_factory.mktemp("pool") / "pool.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=40)
    return file, rows


@pytest.fixture
def small_budgets(monkeypatch):
    """A few pictures fill each of them."""
    for module in (parquet_batches, record_table, row_checks, writing):
        monkeypatch.setattr(module, "_BYTES", 200_000)


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the Parquet batches that are read."""
    found, original = [], pq.ParquetFile.iter_batches

    def noted(self, **options):
        for batch in original(self, **options):
            found.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    return found


def test_as_many_rows_as_fit_by_the_size_of_the_wanted_columns(pool, monkeypatch, batches):
    file, rows = pool
    groups = [rows[start : start + 40] for start in range(0, COUNT, 40)]
    heaviest = max(sum(len(row["image"]["bytes"]) for row in group) / len(group) for group in groups)
    monkeypatch.setattr(parquet_batches, "_BYTES", int(heaviest * 7.5))
    with parquet_batches.opened(file) as opened:
        found = list(parquet_batches.rows_of(opened, ["prompt", "image"], 256))
    assert found == [{"prompt": row["prompt"], "image": row["image"]} for row in rows]
    assert max(batches) == 7
    batches.clear()
    with parquet_batches.opened(
        file
    ) as opened:  # the other columns are small, one's name begins like that of the large one
        assert len(list(parquet_batches.rows_of(opened, ["prompt"], 64))) == COUNT
        assert len(list(parquet_batches.rows_of(opened, ["imagery"], 256))) == COUNT
    assert max(batches[:3]) == 64 and max(batches[3:]) >= 40


def test_a_row_larger_than_the_budget_comes_alone(pool, monkeypatch, batches):
    monkeypatch.setattr(parquet_batches, "_BYTES", 1)
    with parquet_batches.opened(pool[0]) as opened:
        assert len(list(parquet_batches.rows_of(opened, ["prompt", "image"], 256))) == COUNT
    assert set(batches) == {1}


def records_file(pool, tmp_path):
    table = pq.read_table(pool[0], columns=["prompt", "image"])
    pq.write_table(table, tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def test_records_are_the_same_in_any_order(pool, tmp_path, small_budgets, batches):
    file = records_file(pool, tmp_path)
    opened, loaded = open_records(file), load_records(file)
    assert max(batches) < 10
    assert len(opened) == COUNT and list(opened) == loaded
    order = Random(1).sample(range(COUNT), COUNT)
    assert [opened[n] for n in order] == [loaded[n] for n in order]
    for part in (slice(0, 1), slice(3, 90), slice(149, 150), slice(150, 150), slice(1, 140, 7), slice(None, None, -1)):
        assert list(opened[part]) == loaded[part]
    assert list(open_records(file)) == loaded  # from the cache


def test_the_table_of_records_has_small_batches(pool, tmp_path, small_budgets, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_records(records_file(pool, tmp_path))
    (file,) = (tmp_path / "cache").rglob("records.arrow")
    with pa.OSFile(str(file), "rb") as source:
        reader = pa.ipc.open_file(source)
        parts = [reader.get_batch(n) for n in range(reader.num_record_batches)]
    sizes = [[len(one[0]) for one in part.column("content").to_pylist()] for part in parts]
    assert [size for part in sizes for size in part] == [len(row["image"]["bytes"]) for row in pool[1]]
    assert all(sum(part[:-1]) < 200_000 <= sum(part) for part in sizes[:-1])
    assert len(RecordTable(file).whole) == COUNT


def test_rows_are_checked_a_few_at_a_time(pool, small_budgets):
    """No more are taken from the source, before the first is checked, than the budget holds."""
    taken, given = [], [SourceRow(n, f"{n}", "", row) for n, row in enumerate(pool[1])]

    def source():
        for row in given:
            taken.append(row)
            yield row

    found = row_checks.checked(lambda row: len(taken), source())
    sizes = [len(row["image"]["bytes"]) for row in pool[1]]
    expected = next(n for n in range(COUNT) if sum(sizes[:n]) >= 200_000)
    assert next(found)[1] == expected
    assert [row for row, _ in found] == given[1:]


def test_published_files_are_read_the_same_way(pool, monkeypatch, batches):
    monkeypatch.setattr(parquet_batches, "_BYTES", 200_000)
    found = list(imported.parquet_rows([pool[0]], ["prompt", "image"]))
    assert [row.data["prompt"] for row in found] == [row["prompt"] for row in pool[1]]
    assert [row.number for row in found] == list(range(COUNT)) and max(batches) < 10


@pytest.mark.parametrize("many", [False, True], ids=["one picture", "two pictures"])
def test_files_are_written_in_small_row_groups(pool, tmp_path, small_budgets, many):
    def record(row):
        content = row["image"]["bytes"]
        return Record(row["prompt"], images=[content, content]) if many else Record(row["prompt"], content)

    records = [record(row) for row in pool[1]]
    records[3] = Record("a PIL image", Image.new("RGB", (10, 10)))
    records[4] = Record("an answer alone", answer="yes")
    file = save_records(records, tmp_path / "made.parquet")
    with pq.ParquetFile(file) as opened:
        sizes = [opened.metadata.row_group(n).num_rows for n in range(opened.metadata.num_row_groups)]
    assert sum(sizes) == COUNT and max(sizes) < 20
    made = load_records(file, check_images=False)
    assert [one.prompt for one in made] == [one.prompt for one in records]
    assert [one.pictures for one in made[5:]] == [one.pictures for one in records[5:]]


def test_lists_end_at_the_count_or_at_the_budget():
    assert list(together(iter([1, 1, 1, 9, 9, 1, 1]), 3, 9, int)) == [[1, 1, 1], [9], [9], [1, 1]]
    assert list(together(iter([4, 4, 1, 0, 0, 0]), 4, 9, int)) == [[4, 4, 1], [0, 0, 0]]
    assert list(together(iter([]), 3, 9, int)) == []


def test_pictures_to_label_are_taken_from_records_when_they_are_asked_for(pool, tmp_path):
    records = open_records(records_file(pool, tmp_path))
    shown = PicturesOf(records)
    assert len(shown) == COUNT and shown[7] == (pool[1][7]["image"]["bytes"],)
    assert shown[3:5] == [shown[3], shown[4]] and list(shown) == [record.pictures for record in records]


CHECK = """
import resource, sys
from zreward.data import open_records
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(len(record.image) for record in open_records(sys.argv[1])))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_pictures(tmp_path):
    """900 MB of pictures of 6 MB, in one row group, in a process of their own: MiB that checking and reading add."""
    content = encoded(0, 1400)
    schema = pa.schema([("prompt", pa.string()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    rows = [{"prompt": f"p {n}", "image": {"bytes": content, "path": None}} for n in range(150)]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "pool.parquet", use_dictionary=False)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, tmp_path / "pool.parquet"],
        env={"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    read, mib = map(int, done.stdout.split())
    assert read == 150 * len(content)
    assert mib < 800, "all pictures were in memory at once"
