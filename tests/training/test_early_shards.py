"""Labelling that begins while the pool is still being checked: the targets are those of a pool that was checked first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tiny import tiny_records
from zreward.cli import main as cli
from zreward.common.errors import InputError
from zreward.common.jobs import Job
from zreward.common.temporary import waiting_lock
from zreward.data import Record, Records, file_state, load_records, pool_check, save_records
from zreward.data.pool_check import PoolCheck
from zreward.data.record_cache import _name, _without_conditions
from zreward.data.sources import Source
from zreward.models.reward_model import RewardModel
from zreward.training import early_shards, targets
from zreward.training.label_dry_run import check_inputs
from zreward.training.target_jobs import label_job, merge_targets
from zreward.training.targets import LabelOptions, label

OPTIONS = LabelOptions(traces=2, shard_size=4, batch_size=2)
ROWS = 22  # five shards of four, and one of two


@pytest.fixture
def pool(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_state, "_SETTLED", 0)
    monkeypatch.setattr(pool_check, "_MANY", 5)
    monkeypatch.setattr(pool_check, "PATIENCE", 0.0)
    return save_records(tiny_records(ROWS // 2, 2, seed=0), tmp_path / "pool.jsonl")


class Held:
    """The lock that the check of `pool` waits for, until `shards` shards were begun and the check was let go and has ended."""

    def __init__(self, pool: Path, shards: int, monkeypatch) -> None:
        home = Path(pool).parent / "cache" / "zreward" / "records"
        home.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        self._lock.enter_context(waiting_lock(home / f"{_name(_without_conditions(PoolCheck(pool)._reading))}.lock"))
        self._shards, self._make = shards, targets._label_shard
        self.check: PoolCheck | None = None
        self.made: list[int] = []
        self.batches = 0
        monkeypatch.setattr(targets, "_label_shard", self._made)

    def _made(self, model, records, start, names, options, number, between=bool):
        self.made.append(number)
        if len(self.made) == self._shards:
            self.let_go()

        def counted() -> object:
            found = between()
            self.batches += 1
            return found

        return self._make(model, records, start, names, options, number, counted)

    def let_go(self) -> None:
        self._lock.close()
        assert self.check is not None
        assert self.check._process is not None
        self.check._process.wait()


@pytest.fixture
def hold(pool, monkeypatch):
    """hold(shards) -> the check of the pool, which ends once so many shards were begun, and what holds it."""
    with ExitStack() as stack:

        def hold_for(shards: int) -> tuple[PoolCheck, Held]:
            held = Held(pool, shards, monkeypatch)
            held.check = stack.enter_context(PoolCheck(pool))
            return held.check, held

        yield hold_for


@pytest.fixture(scope="module")
def teacher(tiny_data) -> RewardModel:
    return RewardModel.from_pretrained(tiny_data["base"])


@pytest.fixture(scope="module")
def expected(teacher, tmp_path_factory) -> dict[str, bytes]:
    """The files that labelling a checked pool writes."""
    folder = tmp_path_factory.mktemp("checked first")
    records = load_records(save_records(tiny_records(ROWS // 2, 2, seed=0), folder / "pool.jsonl"))
    return contents(label(teacher, "base", records, folder / "out", OPTIONS))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_targets_are_those_of_a_pool_that_was_checked_first(teacher, expected, hold, tmp_path, capfd):
    check, held = hold(3)
    assert contents(label(teacher, "base", check, tmp_path / "early", OPTIONS)) == expected
    assert held.made == list(range(6))  # none twice
    assert "still being checked" in capfd.readouterr().err


def test_a_check_that_ends_in_time_comes_first(teacher, expected, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_check, "PATIENCE", 60.0)
    monkeypatch.setattr(PoolCheck, "first", None)
    with PoolCheck(pool) as check:
        assert contents(label(teacher, "base", check, tmp_path / "early", OPTIONS)) == expected


def test_bad_lines_stop_it_between_two_batches_and_nothing_is_kept(teacher, pool, hold, tmp_path):
    with pool.open("a") as file:
        file.write('{"prompt": "no picture"}\n')
    check, held = hold(2)
    with pytest.raises(InputError, match=r"pool\.jsonl:23: .*\n1 bad line in "):
        label(teacher, "base", check, tmp_path / "early", OPTIONS)
    assert (held.made, held.batches) == ([0, 1], 2)
    assert not (tmp_path / "early").exists()


def test_a_shard_of_other_records_than_were_checked_is_made_again(teacher, expected, hold, tmp_path, monkeypatch):
    first = PoolCheck.first

    def others(check: PoolCheck) -> Iterator[Record]:
        for number, record in enumerate(first(check)):
            yield Record("another prompt", record.image) if number == 5 else record

    monkeypatch.setattr(PoolCheck, "first", others)
    check, held = hold(3)
    assert contents(label(teacher, "base", check, tmp_path / "early", OPTIONS)) == expected
    assert held.made == [0, 1, 2, 1, 3, 4, 5]


def test_a_folder_that_was_begun_waits_for_the_check(teacher, expected, pool, hold, tmp_path):
    out = label(teacher, "base", load_records(pool), tmp_path / "out", OPTIONS)
    check, held = hold(1)
    held.let_go()
    assert contents(label(teacher, "base", check, out, OPTIONS)) == expected
    assert held.made == []


def test_jobs_begin_early_too_each_with_its_own_shards(teacher, expected, pool, hold, tmp_path):
    out = tmp_path / "out"
    check, held = hold(2)
    label_job(teacher, "base", check, out, OPTIONS, Job(1, 2))
    assert held.made == [0, 2, 4]
    label_job(teacher, "base", load_records(pool), out, OPTIONS, Job(2, 2))
    assert contents(merge_targets(out)) == expected


def test_large_pictures_wait_for_the_check(teacher, tmp_path, monkeypatch):
    """A shard's are in memory together where it is made early: no more of them than fit."""
    pictures = [bytes(100) for _ in range(12)]
    monkeypatch.setattr(early_shards, "_BYTES", 799)
    records = iter([Record("a cat", picture) for picture in pictures])
    assert [len(early_shards._taken(records, size)) for size in (4, 8)] == [4, 7]
    assert len(list(records)) == 0


def test_what_a_kill_leaves_before_the_check_ends_is_no_other_folder(teacher, expected, pool, tmp_path, tiny_data):
    """A dry run calls it free, and the same command begins anew."""
    out = tmp_path / "early"
    (out / ".zreward-0123456789ab.tmp").mkdir(parents=True)
    (out / ".zreward-0123456789ab.tmp" / "targets-00000.parquet").write_bytes(b"half")
    told = check_inputs(str(tiny_data["base"]), Source(str(pool)), out, OPTIONS)
    assert told[-1] == f"{out}: free, and can be written"
    assert contents(label(teacher, "base", load_records(pool), out, OPTIONS)) == expected
    (out / "manifest.json").unlink()
    with pytest.raises(InputError, match="is not empty"):
        check_inputs(str(tiny_data["base"]), Source(str(pool)), out, OPTIONS)


@pytest.mark.parametrize("teacher_name", ["a-folder", "endpoint:http://127.0.0.1:9/v1#model"])
def test_the_command_waits_for_the_check_only_before_it_asks_an_endpoint(pool, tmp_path, monkeypatch, teacher_name):
    """Nobody pays for shards of a pool that is then found bad."""
    given = []
    monkeypatch.setattr("zreward.cli.train._teacher", lambda *_: None)
    monkeypatch.setattr("zreward.cli.train.say_usage", lambda _: {})
    monkeypatch.setattr(targets, "label", lambda model, name, records, out, options: given.append(records) or out)
    words = ["zreward", "label", teacher_name, "--data", str(pool), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert isinstance(given[0], Records if teacher_name.startswith("endpoint:") else PoolCheck)
