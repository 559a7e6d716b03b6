"""kill -9 anywhere in a job, in a rank and in a merge, the command again: every row once, and the bytes of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.killing import Killer, chosen, leftovers
from tests.tiny import tiny_model, tiny_records
from zreward.common.files import file_digest
from zreward.data.writing import save_records

COMMANDS = {
    "label": ("targets", ["--seed", "5", "--shard-size", "2", "--batch-size", "2", "--dimensions", "realism"]),
    "score": ("scores.parquet", ["--batch-size", "1"]),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with an untrained model and records."""
    folder = tmp_path_factory.mktemp("jobs")
    tiny_model(trace_tokens=4).save_pretrained(folder / "base")
    save_records(tiny_records(3, 3, seed=0), folder / "data.jsonl")
    return folder


def arguments(command: str, inputs: Path, out: Path, *more: str) -> list[str]:
    name, options = COMMANDS[command]
    where = ["--data", str(inputs / "data.jsonl"), "--out", str(out / name)]
    return [command, str(inputs / "base"), *where, *options, *more]


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def check(killer: Killer, inputs: Path, folder: Path, command: str, kills: int) -> None:
    """Two jobs and a merge, the first job or the merge killed and repeated, against one process."""
    steps = [["--shard", "1/2"], ["--shard", "2/2"], None]
    alone, name = folder / "alone", COMMANDS[command][0]
    alone.mkdir()
    killer.run(arguments(command, inputs, alone), alone, shard=2)

    def step(out: Path, number: int, kill_at: int | None = None) -> list[str]:
        more = steps[number]
        told = ["merge", str(out / name)] if more is None else arguments(command, inputs, out, *more)
        return killer.run(told, out, kill_at, shard=2)

    whole = folder / "whole"
    whole.mkdir()
    events = [step(whole, number) for number in range(3)]
    assert digests(whole) == digests(alone)
    for dies in (0, 2):
        for kill_at in chosen(events[dies], kills):
            out = folder / f"killed-{dies}-{kill_at}"
            out.mkdir()
            for number in range(3):
                place = step(out, number, kill_at)[-1] if number == dies else ""
                step(out, number)
            assert digests(out) == digests(alone), f"step {dies} killed at {kill_at}: {place}"
            assert not leftovers(out), f"step {dies} killed at {kill_at}: {place}"


def test_a_kill_in_a_job_or_in_the_merge_loses_and_doubles_nothing(killer, inputs, tmp_path):
    check(killer, inputs, tmp_path, "score", kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_many_kills_lose_and_double_nothing(killer, inputs, tmp_path, command):
    check(killer, inputs, tmp_path, command, kills=20)


# --- ranks


def launch(told: list[str]) -> subprocess.Popen:
    """Two processes of torchrun."""
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "zreward.cli",
    ]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([*start, *told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings)


def ranks_of(launcher: subprocess.Popen) -> list[int]:
    """The process ids of what it started."""
    found = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(number) for number in found]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a launcher's processes in /proc")
def test_two_ranks_one_killed_and_repeated(killer, inputs, tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "ranks"
    alone.mkdir()
    killer.run(arguments("label", inputs, alone), alone)
    told = arguments("label", inputs, out)
    first, shards = launch(told), lambda: list((out / "targets").glob("job-*/*.parquet"))
    while not shards():
        assert first.poll() is None, first.communicate()[1].decode()[-2000:]
        time.sleep(0.01)
    os.kill(ranks_of(first)[1], signal.SIGKILL)
    first.communicate(timeout=120)
    assert first.returncode != 0 and not (out / "targets" / "manifest.json").exists()

    again = launch(told)
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors.decode()[-2000:]
    assert printed.decode().strip() == f"targets: {out / 'targets'}"  # said once
    assert digests(out) == digests(alone)
    assert not leftovers(out)
