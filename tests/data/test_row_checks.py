"""Rows that are checked by threads and processes: all of them, in order, whatever ends a process."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zreward.data import load_records, open_records, row_checks
from zreward.data.rows import SourceRow

LARGE = bytes(row_checks._SMALL + 1)
FORKS = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Two processes from the second chunk on, whatever the machine has."""
    monkeypatch.setattr(row_checks, "_CPUS", 2)
    monkeypatch.setattr(row_checks, "_WORKERS", 2)
    monkeypatch.setattr(row_checks, "_ALONE", row_checks._SENT)


def rows(count: int, is_large=lambda number: False) -> list[SourceRow]:
    return [SourceRow(n, f"row {n}", "{}", {"n": n, "image": LARGE if is_large(n) else b"small"}) for n in range(count)]


def where(row: SourceRow) -> tuple[int, int]:
    assert row.data is not None
    return row.data["n"], os.getpid()


@FORKS
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 5000])
@pytest.mark.parametrize(
    "is_large",
    [lambda n: False, lambda n: True, lambda n: n in (700, 701, 4000), lambda n: n % 3 == 0],
    ids=["none", "all", "few", "third"],
)
def test_every_row_comes_once_and_in_order(count, is_large):
    given = rows(count, is_large)
    found = list(row_checks.checked(where, given))
    assert [row for row, _ in found] == given
    assert [number for _, (number, _) in found] == list(range(count))


@FORKS
def test_many_small_rows_are_checked_by_other_processes_and_large_ones_by_threads():
    small = {pid for _, (_, pid) in list(row_checks.checked(where, rows(5000)))[row_checks._SENT :]}
    assert len(small) == 2 and os.getpid() not in small
    for few in (rows(row_checks._SENT), rows(2000, lambda n: True)):
        assert {pid for _, (_, pid) in row_checks.checked(where, few)} == {os.getpid()}


@FORKS
def test_what_a_killed_process_leaves_is_checked_here():
    """As where a machine runs out of memory: the system kills one process."""
    here = os.getpid()

    def check(row: SourceRow) -> int:
        number, pid = where(row)
        if number == 1234 and pid != here:
            os.kill(pid, signal.SIGKILL)
        return number

    assert [number for _, number in row_checks.checked(check, rows(5000))] == list(range(5000))


@FORKS
def test_an_error_of_a_check_in_a_process_arrives():
    def check(row: SourceRow) -> int:
        number, _ = where(row)
        if number == 3000:
            raise LookupError("row 3000")
        return number

    seen: list[int] = []
    with pytest.raises(LookupError, match="row 3000"):
        seen += (number for _, number in row_checks.checked(check, rows(5000)))
    assert multiprocessing.active_children() == []


@FORKS
def test_a_loop_that_is_left_early_leaves_no_process():
    found = row_checks.checked(where, rows(5000))
    for _, (number, _) in found:
        if number == 2000:
            break
    assert multiprocessing.active_children() != []
    found.close()
    assert multiprocessing.active_children() == []


@FORKS
def test_a_thread_may_ask_too():
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: list(row_checks.checked(where, rows(2000)))).result()
    assert [number for _, (number, _) in found] == list(range(2000))
    assert os.getpid() not in {pid for _, (_, pid) in found[row_checks._SENT :]}


def test_one_processor_and_a_process_without_children_check_alone(monkeypatch):
    monkeypatch.setattr(row_checks, "_CPUS", 1)
    assert {pid for _, (_, pid) in row_checks.checked(where, rows(1000))} == {os.getpid()}
    monkeypatch.setattr(row_checks, "_CPUS", 2)
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
    assert {pid for _, (_, pid) in row_checks.checked(where, rows(1000))} == {os.getpid()}


@FORKS
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path):
    """They share its locks: one that lived on would hold them."""
    script = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from zreward.data import row_checks
from zreward.data.rows import SourceRow
row_checks._CPUS = row_checks._WORKERS = 2
row_checks._ALONE = 0

def check(row):
    open(os.path.join({str(tmp_path)!r}, str(os.getpid())), "w").close()
    time.sleep(0.01)

for _ in row_checks.checked(check, (SourceRow(n, "", "", {{}}) for n in range(10**6))):
    pass
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    _wait(lambda: len(list(tmp_path.iterdir())) == 2)
    children = [int(file.name) for file in tmp_path.iterdir()]
    assert parent.pid not in children
    parent.kill()
    parent.wait()
    _wait(lambda: not any(map(_runs, children)))


def _wait(happened) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@FORKS
def test_records_and_bad_lines_are_those_that_one_process_finds(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = io.BytesIO()
    Image.new("RGB", (5, 4), "teal").save(file, "PNG")
    good = {"prompt": "a teal tile", "image": {"bytes": file.getvalue(), "path": None}, "id": None}
    lines = [good | {"id": f"i{n}"} for n in range(3000)]
    lines[1500] |= {"id": "i7"}
    lines[2000] |= {"image": {"bytes": file.getvalue()[:-20], "path": None}}
    lines[2500] |= {"prompt": " "}
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "pool.parquet")
    found = list(open_records(tmp_path / "pool.parquet", skip_bad=True))
    skipped = (tmp_path / "pool.parquet.skipped.jsonl").read_text()
    monkeypatch.setattr(row_checks, "_CPUS", 1)
    assert found == load_records(tmp_path / "pool.parquet", skip_bad=True)
    assert (tmp_path / "pool.parquet.skipped.jsonl").read_text() == skipped
    assert [json.loads(line)["line"] for line in skipped.splitlines()] == [1500, 2000, 2500] and len(found) == 2997
