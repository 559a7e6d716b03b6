"""Two processes that work together (gloo), each as python -m tests.two_ranks MODULE FUNCTION FOLDER RANK."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.plain_model import compute_in_float64

ROOT = Path(__file__).parents[1]


def together(work: Callable[[Path, int, pytest.MonkeyPatch], None], folder: Path) -> None:
    """Run `work(folder, rank, monkeypatch)`, a function of a module under tests/, as ranks 0 and 1, in float64.

    What one of them fails with is this test's failure.
    """
    module = ".".join(Path(work.__code__.co_filename).relative_to(ROOT).with_suffix("").parts)
    command = [sys.executable, "-m", "tests.two_ranks", module, work.__name__, str(folder)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*command, str(rank)], cwd=ROOT, env=settings, stderr=subprocess.PIPE) for rank in (0, 1)]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=300)
            assert rank.returncode == 0, errors.decode()[-3000:]
    finally:
        for rank in ranks:
            rank.kill()  # one that waits for the other


def main(module: str, function: str, folder: Path, rank: int) -> None:
    # accelerate asks for an address and a port; the meeting point is a file.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    monkeypatch = pytest.MonkeyPatch()
    compute_in_float64(monkeypatch)
    getattr(import_module(module), function)(folder, rank, monkeypatch)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
