"""Two processes on the CPU train as one: they step along the gradient of all rows."""

import os
import subprocess
import sys
from pathlib import Path


def test_two_processes_step_along_the_gradient_of_all_rows(tmp_path):
    command = [sys.executable, "-m", "tests.training.two_ranks", str(tmp_path)]
    root, settings = Path(__file__).parents[2], os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*command, str(rank)], cwd=root, env=settings, stderr=subprocess.PIPE) for rank in (0, 1)]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors.decode()[-3000:]
