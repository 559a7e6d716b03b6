"""A small request alone and beside each attack: p50, p99, and how many times longer it takes.

    python -m benchmarks.server_attacks [NAME ...]    all attacks of tests/serving/attacks.py, or those named

The server is `zreward serve` on the small base model, at most 256 pixels a side; it and the attack run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from tests.serving.attacks import ATTACKS
from tests.serving.beside import measure, percentile, resident, small_requests
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel

ROUNDS, EACH, LONGEST_SIDE = 4, 25, 256


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """`zreward serve` and its port."""
    with tempfile.TemporaryDirectory() as folder:
        model = RewardModel.from_pretrained("world:small", resolution=ResolutionPolicy(longest_side=LONGEST_SIDE))
        model.save_pretrained(f"{folder}/model")
        command = [sys.executable, "-m", "zreward.cli", "serve", f"{folder}/model", "--port", "0", *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            yield server, int(line.split(" (documentation")[0].rpartition(":")[2])
        finally:
            server.terminate()
            server.wait(90)


def main(names: list[str]) -> None:
    table = Table(
        "attack", "alone p50", "alone p99", "beside p50", "beside p99", "p99 ratio", "MiB after", "attackers saw"
    )
    with serving("--allow-pickle") as (server, port):
        small_requests(port, 20)
        for name in names:
            times = measure(port, name, ROUNDS, EACH)
            numbers = [percentile(values, part) for values in (times.alone, times.beside) for part in (0.5, 0.99)]
            cells = [f"{number * 1000:.0f} ms" for number in numbers]
            table.add_row(name, *cells, f"{times.ratio:.2f}", f"{resident(server.pid):.0f}", times.attack)
            print(name, *cells, f"{times.ratio:.2f}", f"{resident(server.pid):.0f} MiB", times.attack[:300], flush=True)
    Console(width=200).print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ATTACKS))
