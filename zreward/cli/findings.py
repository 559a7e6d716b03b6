"""What `zreward data check` prints."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zreward.data.checking import Findings

RATERS_SHOWN = 10


def print_findings(found: Findings, source: str, what: str = "records") -> None:
    """Counts by dimension and split, raters, notes; errors are left to the message that ends the command."""
    console = Console()
    console.print(escape(f"{source}: {len(found.records):,} {what} of {found.prompts:,} prompts"), highlight=False)
    if found.counts:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in found.counts[0]:
            table.add_column(name, justify="left" if name in ("dimension", "split") else "right", overflow="fold")
        for row in found.counts:
            table.add_row(*(escape(f"{value:g}" if isinstance(value, float) else str(value)) for value in row.values()))
        console.print(table)
    if found.raters:
        shown = ", ".join(f"{rater} {count:,}" for rater, count in list(found.raters.items())[:RATERS_SHOWN])
        more = f" and {len(found.raters) - RATERS_SHOWN} more" if len(found.raters) > RATERS_SHOWN else ""
        console.print(escape(f"{'ratings' if what == 'records' else 'votes'} by rater: {shown}{more}"), highlight=False)
    for note in found.notes:
        console.print(escape(f"note: {note}"), highlight=False)
