"""Twenty thousand pictures, the program killed twice: every row once, and no more memory than a tenth of them takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.serving.running import png
from zreward.data import Record, save_records

ROWS = 20_000


def start(data: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "zreward.cli", "score", "world:small", "--data", str(data), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(program: subprocess.Popen) -> float:
    """Wait for the end; peak memory in MiB."""
    _, status, usage = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    assert program.returncode == 0
    return usage.ru_maxrss / 1024


def kill_after(program: subprocess.Popen, parts: int, folder: Path) -> None:
    """SIGKILL once `parts` shards are whole."""
    while len(list(folder.glob("part-*.parquet"))) < parts:
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(signal.SIGKILL)
    program.wait()


@pytest.mark.slow
def test_killed_twice_and_resumed(tmp_path):
    rng = np.random.default_rng(0)
    shades = [png(Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))) for _ in range(50)]
    records = [Record(f"picture {n}", shades[n % 50], id=str(n)) for n in range(ROWS)]
    save_records(records, tmp_path / "all.parquet")
    save_records(records[: ROWS // 10], tmp_path / "tenth.parquet")
    tenth = finish(start(tmp_path / "tenth.parquet", tmp_path / "tenth-scores.parquet"))

    out = tmp_path / "scores.parquet"
    for parts in (5, 20):
        kill_after(start(tmp_path / "all.parquet", out), parts, tmp_path / "scores.parquet.parts")
        assert not out.exists()
    whole = finish(start(tmp_path / "all.parquet", out))

    table = pq.read_table(out, columns=["row", "id", "error", "alignment_mean"])
    assert table["row"].to_pylist() == list(range(ROWS))
    assert table["id"].to_pylist() == [str(n) for n in range(ROWS)]
    assert table["error"].null_count == ROWS and table["alignment_mean"].null_count == 0
    assert whole < tenth * 1.1 + 40
