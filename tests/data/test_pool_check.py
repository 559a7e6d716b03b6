"""A pool that another process checks: what it finds is what `open_records` finds, and it never outlives its block."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.tiny import tiny_records
from zreward.common.errors import InputError
from zreward.common.temporary import waiting_lock
from zreward.data import Record, load_records, pool_check, row_checks, save_records
from zreward.data.images import encoded
from zreward.data.pool_check import PoolCheck
from zreward.data.record_cache import _name, _without_conditions
from zreward.data.rows import Fields
from zreward.data.sources import Source


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pool_check, "_MANY", 5)
    return tmp_path / "cache" / "zreward" / "records"


@pytest.fixture
def pool(tmp_path) -> Path:
    return save_records(tiny_records(4, 2, seed=0), tmp_path / "pool.jsonl")


def with_bad_line(pool: Path) -> Path:
    with pool.open("a") as file:
        file.write('{"prompt": "no picture"}\n')
    return pool


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    return psutil.pid_exists(process.pid) and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE


def lock_of(pool: Path, cache: Path) -> Path:
    """What whoever checks the pool waits for."""
    return cache / f"{_name(_without_conditions(PoolCheck(pool)._reading))}.lock"


def facts(records) -> list[tuple]:
    return [(record.prompt, record.image, dict(record.scores), record.id) for record in records]


def test_the_records_are_those_that_one_process_reads_and_the_cache_has_them_then(pool, monkeypatch):
    with PoolCheck(pool) as check:
        assert check._process is not None
        assert facts(check.records()) == facts(load_records(pool))
        assert not check.is_running()
    with PoolCheck(pool) as again:
        assert again._process is None  # known already
        assert facts(again.records()) == facts(load_records(pool))
    save_records(tiny_records(4, 2, seed=1), pool)
    with PoolCheck(pool) as changed:
        assert changed._process is not None
        assert facts(changed.records()) == facts(load_records(pool))


def test_processes_of_the_other_process_check_many_small_pictures(tmp_path):
    """What a forked process inherits locked, it waits for without end."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    count = row_checks._ALONE + 2 * row_checks._SENT
    pool = save_records((Record(f"number {n}", file.getvalue()) for n in range(count)), tmp_path / "pool.parquet")
    with PoolCheck(pool) as check:
        assert check._process is not None
        check._process.wait(timeout=120)
        assert not check.is_running()
        with PoolCheck(pool) as again:
            assert again._process is None
        assert len(check.records()) == count


def test_few_rows_and_sources_that_cannot_be_read_need_no_process(pool, tmp_path, monkeypatch):
    with PoolCheck(tmp_path / "absent.jsonl") as check:
        assert check._process is None
        assert not check.takes_long()
        with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
            check.records()
    monkeypatch.setattr(pool_check, "_MANY", 8)
    with PoolCheck(pool) as check:
        assert check._process is None
        assert len(check.records()) == 8


def test_large_pictures_in_few_rows_count(pool, tmp_path, monkeypatch):
    pictures = [encoded(record.image) for record in load_records(pool)]
    pool = save_records((Record("a cat", picture) for picture in pictures), tmp_path / "pool.parquet")
    monkeypatch.setattr(pool_check, "_MANY", 8)
    held = sum(map(len, pictures))
    for most, is_there in ((held, False), (held - 1, True)):
        monkeypatch.setattr(pool_check, "_BYTES", most)
        with PoolCheck(pool) as check:
            assert (check._process is not None) is is_there


def test_the_split_the_fields_and_bad_lines_to_skip_reach_the_other_process(tmp_path, capsys):
    lines = [
        json.loads(line)
        for line in save_records(tiny_records(4, 2, seed=0), tmp_path / "pool.jsonl").read_text().splitlines()
    ]
    for number, line in enumerate(lines):
        line["caption"] = line.pop("prompt")
        line["split"] = "train" if number % 2 else "dev"
    pool = tmp_path / "named.jsonl"
    pool.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"caption": "no picture"}]))
    source = Source(str(pool), Fields("caption"))
    with PoolCheck(source, skip_bad=True, split="train") as check:
        assert check._process is not None
        records = check.records()
        assert not check.is_running()
    assert [record.prompt for record in records] == [line["caption"] for line in lines[1::2]]
    assert capsys.readouterr().err.count("skipped 1 of 9 lines") == 1
    assert "no picture" in (tmp_path / "named.jsonl.skipped.jsonl").read_text()


def test_bad_lines_are_the_error_of_one_process(pool):
    with_bad_line(pool)
    with pytest.raises(InputError) as expected:
        load_records(pool)
    with PoolCheck(pool) as check:
        with pytest.raises(InputError) as found:
            check.records()
        assert str(found.value) == str(expected.value)
        with pytest.raises(InputError):
            check.is_running()
        with pytest.raises(InputError):
            check.takes_long()
        assert facts(check.first()) == facts(load_records(save_records(tiny_records(4, 2, seed=0), pool)))


def test_it_is_waited_for_but_not_for_ever(pool, cache, monkeypatch):
    cache.mkdir(parents=True)
    monkeypatch.setattr(pool_check, "PATIENCE", 0.2)
    with waiting_lock(lock_of(pool, cache)), PoolCheck(pool) as check:
        begun = time.monotonic()
        assert check.takes_long()
        assert time.monotonic() - begun < 10
        assert check.is_running()
        process = check._process
    assert process is not None
    assert not is_alive(process)
    monkeypatch.setattr(pool_check, "PATIENCE", 60.0)
    with PoolCheck(pool) as check:
        assert not check.takes_long()


def test_a_process_that_was_killed_leaves_its_work_to_this_one(pool):
    with PoolCheck(pool) as check:
        assert check._process is not None
        os.kill(check._process.pid, signal.SIGKILL)
        assert facts(check.records()) == facts(load_records(pool))


def test_it_ends_with_a_parent_that_was_killed(pool, cache):
    """The lock, which this test holds, keeps it at work."""
    cache.mkdir(parents=True)
    parent = (
        "import sys, time; from zreward.data import pool_check; pool_check._MANY = 5\n"
        "with pool_check.PoolCheck(sys.argv[1]) as check: print(check._process.pid, flush=True); time.sleep(600)"
    )
    with waiting_lock(lock_of(pool, cache)):
        started = subprocess.Popen([sys.executable, "-c", parent, str(pool)], stdout=subprocess.PIPE, text=True)
        assert started.stdout is not None
        child = psutil.Process(int(started.stdout.readline()))
        assert child.is_running()
        started.kill()
        started.wait()
        psutil.wait_procs([child], timeout=60)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_folder_that_nothing_can_be_kept_in_is_checked_once(pool, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with PoolCheck(pool) as check:
        assert check._process is None
        assert len(check.records()) == 8
