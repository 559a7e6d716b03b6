"""Two processes that work together (gloo). `python -m tests.two_ranks` imports everything once and forks both for each test."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 300  # of one work; a rank that waits for the other for ever is killed


def together(work: Callable[[Path, int, pytest.MonkeyPatch], None], folder: Path) -> None:
    """Run `work(folder, rank, monkeypatch)`, a function of a module under tests/, as ranks 0 and 1, in float64.

    What one of them fails with is this test's failure.
    """
    module = ".".join(Path(work.__code__.co_filename).relative_to(ROOT).with_suffix("").parts)
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps([module, work.__name__, str(folder)]) + "\n")
    server.stdin.flush()
    failed = json.loads(server.stdout.readline())
    assert not failed, "\n".join(log.read_text()[-3000:] for rank in failed if (log := _log(folder, rank)).exists())


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.two_ranks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.communicate, "")
    return server


def _log(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.log"


def _serve() -> None:
    import zreward.generation.optimize
    import zreward.training.run  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        module, function, folder = json.loads(line)
        ranks = [_fork(module, function, Path(folder), rank) for rank in (0, 1)]
        print(json.dumps(_failed(ranks)), flush=True)


def _fork(module: str, function: str, folder: Path, rank: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(_log(folder, rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.alarm(MOST_SECONDS)
        _work(module, function, folder, rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _failed(ranks: list[int]) -> list[int]:
    """The ranks that did not end well; the other one, which would wait for it, is killed."""
    failed, left = [], dict(enumerate(ranks))
    while left:
        ended, status = os.wait()
        rank = next(number for number, child in left.items() if child == ended)
        del left[rank]
        if status:
            failed.append(rank)
            for child in left.values():
                os.kill(child, signal.SIGKILL)
    return failed


def _work(module: str, function: str, folder: Path, rank: int) -> None:
    import torch

    from tests.plain_model import compute_in_float64

    # accelerate asks for an address and a port; the meeting point is a file.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    monkeypatch = pytest.MonkeyPatch()
    compute_in_float64(monkeypatch)
    getattr(import_module(module), function)(folder, rank, monkeypatch)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _serve()
