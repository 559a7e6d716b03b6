"""Half a million rows: memory as for five thousand, in a Parquet file and in tar shards, and a start within a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "many_rows.py"
FEW, MANY = 5_000, 500_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--tar"]], ids=["parquet", "tar"])
def test_half_a_million_rows_need_the_memory_of_five_thousand(kind):
    command = [sys.executable, str(BENCHMARK), *kind, str(FEW), str(MANY)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    peaks = {(line["launch"], line["rows"]): line["peak_mib"] for line in lines}
    launches = {line["launch"] for line in lines}
    scored = {"score"} if kind else set()
    assert launches == {"label, first", "label, again", "risd, first", "risd, again"} | scored
    for launch in launches:
        # Held in memory, the rows took 3,000 MiB for label and 13,000 MiB for RISD more.
        assert peaks[launch, MANY] - peaks[launch, FEW] < 250, (launch, peaks)
    for line in () if kind else lines:  # of one core: a clock would tell what else the machine does
        assert line["start_up_cpu_s"] < 60, line
