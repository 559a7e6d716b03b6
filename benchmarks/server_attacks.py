"""A small request alone and beside each attack: p50, p99, and how many times longer it takes.

    python -m benchmarks.server_attacks [NAME ...]    all attacks of tests/serving/attacks.py, or those named

The server is `zreward serve` on the small base model, at most 256 pixels a side; the attack runs in a process of its own.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from tests.serving.attacks import ATTACKS
from tests.serving.beside import measure, percentile, resident, serving, small_requests

ROUNDS, EACH = 4, 50


def main(names: list[str]) -> None:
    table = Table(
        "attack", "alone p50", "alone p99", "beside p50", "beside p99", "p99 ratio", "MiB after", "attackers saw"
    )
    with serving("--allow-pickle") as server:
        small_requests(server.port, 20)
        for name in names:
            times = measure(server.port, name, ROUNDS, EACH)
            numbers = [percentile(values, part) for values in (times.alone, times.beside) for part in (0.5, 0.99)]
            cells = [f"{number * 1000:.0f} ms" for number in numbers]
            table.add_row(name, *cells, f"{times.ratio:.2f}", f"{resident(server.process.pid):.0f}", times.attack)
            print(
                name,
                *cells,
                f"{times.ratio:.2f}",
                f"{resident(server.process.pid):.0f} MiB",
                times.attack[:300],
                flush=True,
            )
    Console(width=200).print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ATTACKS))
