"""`--engine ray`: a real Ray cluster of this machine, two workers, some killed; the bytes are one process's (`slow`)."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.tiny import tiny_model, tiny_records
from zreward.cli import main as cli
from zreward.common import ray_workers
from zreward.common.errors import InputError
from zreward.common.files import file_digest
from zreward.common.ray_workers import JOBS_A_WORKER, run_jobs
from zreward.data.writing import save_records

pytest.importorskip("ray", reason="needs the extra ray")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    tiny_model(trace_tokens=3).save_pretrained(folder / "base")
    save_records(tiny_records(10, 2, seed=0), folder / "data.jsonl")
    return folder


def command(*words: object, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["zreward", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def make_killed(folder: Path):
    """Work that dies the first time that job 3 is begun, and after the file of job 4 was written."""

    def work(job) -> None:
        if job.number in (3, 4) and not (folder / f"died-{job.number}").exists():
            (folder / f"died-{job.number}").touch()
            if job.number == 4:
                (folder / "job-4").write_text(str(job))
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / f"job-{job.number}").write_text(str(job))

    return work


@pytest.mark.slow
def test_killed_workers_start_again_and_every_job_is_done(tmp_path):
    assert run_jobs(partial(make_killed, tmp_path), 2) == 2 * JOBS_A_WORKER
    made = {int(path.name[4:]): path.read_text() for path in tmp_path.glob("job-*")}
    assert made == {n: f"{n}/16" for n in range(1, 17)}
    assert len(list(tmp_path.glob("died-*"))) == 2


def make_deadly():
    return lambda job: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_always_die_are_given_up(monkeypatch):
    monkeypatch.setattr(ray_workers, "DEATHS", 1)
    with pytest.raises(InputError, match=r"died more than 1 times, .* repeat the command with a smaller --batch-size"):
        run_jobs(make_deadly, 1)


def make_refusing():
    def work(job) -> None:
        raise InputError(f"job {job} is refused")

    return work


@pytest.mark.slow
def test_what_a_job_refuses_is_said_as_it_is():
    with pytest.raises(InputError, match=r"^job \d+/8 is refused$"):
        run_jobs(make_refusing, 1)


def test_more_workers_than_there_is_room_for_are_refused():
    with pytest.raises(InputError, match=r"--workers 4096: the Ray cluster has \d+ CPUs; expected at most"):
        run_jobs(make_refusing, 4096)


@pytest.mark.slow
def test_label_and_score_write_what_one_process_writes(world, tmp_path, monkeypatch):
    label = ["label", world / "base", "--data", world / "data.jsonl", "--seed", 3, "--shard-size", 3]
    score = ["score", world / "base", "--data", world / "data.jsonl"]
    for engine, more in (("alone", ()), ("ray", ("--engine", "ray", "--workers", 2))):
        assert command(*label, "--out", tmp_path / engine / "targets", *more, monkeypatch=monkeypatch) == 0
        assert command(*score, "--out", tmp_path / engine / "scores.parquet", *more, monkeypatch=monkeypatch) == 0
    assert digests(tmp_path / "ray") == digests(tmp_path / "alone")
    assert len(digests(tmp_path / "alone" / "targets")) > 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "rey"), "--engine 'rey' is unknown; expected local or ray"),
        (("--workers", "2"), "--workers has no effect without --engine ray"),
        (
            ("--engine", "ray", "--shard", "1/2"),
            "--shard has no effect with --engine ray, which shares the work itself",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(world, tmp_path, monkeypatch, capsys, words, message):
    where = ["score", world / "base", "--data", world / "data.jsonl", "--out", tmp_path / "scores.parquet"]
    assert command(*where, *words, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("address", ["garbage", "ray://nowhere.invalid:10001"])
def test_an_address_at_which_no_cluster_is(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        InputError, match=f"Ray does not start at RAY_ADDRESS='{address}': .*; correct RAY_ADDRESS, or unset it"
    ):
        run_jobs(lambda: print, 1)
