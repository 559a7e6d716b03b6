"""The table of official figures in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zreward.bench.results import HEAD


def print_lines(lines: Sequence[Sequence[str]], console: Console | None = None) -> None:
    """Print lines of `table_lines`. Output to a file gets the width it needs."""
    console = console or Console(width=None if sys.stdout.isatty() else 200)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, title in enumerate(HEAD):
        table.add_column(title, justify="left" if number < 4 else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    console.print(table)
