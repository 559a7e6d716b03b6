"""Tables of metrics: their columns, printed in the terminal, and as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from zreward.distribution import ScoreScale
from zreward.files import write_json

MARGIN = 0.5
"""Margin HPA counts the pairs whose human gap is above this, score units."""
POOLED = "all"
"""The name of the row over all dimensions."""


class Column(NamedTuple):
    """How a metric is shown. `best` is +1 where more is better, -1 where less is, 0 where neither."""

    key: str
    title: str
    digits: int
    best: int


COLUMNS = (
    Column("plcc", "PLCC", 3, 1),
    Column("srcc", "SRCC", 3, 1),
    Column("hpa", "HPA", 3, 1),
    Column("margin_hpa", "margin HPA", 3, 1),
    Column("tie_rate", "ties", 3, 0),
    Column("nll", "NLL", 3, -1),
    Column("crps", "CRPS", 3, -1),
    Column("ece", "ECE", 3, -1),
    Column("output_tokens", "tokens", 1, 0),
    Column("truncated", "cut off", 3, 0),
    Column("n_items", "items", 0, 0),
    Column("n_pairs", "pairs", 0, 0),
)


def format_value(value: float | None, digits: int) -> str:
    """A number for a table; a dash for what is undefined."""
    return "–" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def print_table(
    rows: Sequence[Mapping[str, Any]], title: str, scale: ScoreScale, console: Console | None = None
) -> None:
    """Rows of `metrics_table`, optionally with `model` and `method`, in the terminal; metrics that no row has are left out."""
    names = [key for key in ("model", "method", "dimension") if any(key in row for row in rows)]
    shown = [column for column in COLUMNS if any(column.key in row for row in rows)]
    caption = (
        f"Scores from {scale.min:g} to {scale.max:g} in steps of {scale.step:g}. HPA: same-prompt pairs ordered as people do; "
        f"margin HPA: those more than {MARGIN:g} apart. CRPS and ECE in score points, NLL in nats."
    )
    table = Table(title=title, caption=caption)
    for name in names:
        table.add_column(name, no_wrap=True)
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    for row in rows:
        cells = [str(row.get(name, "")) for name in names]
        cells += [format_value(row.get(column.key), column.digits) for column in shown]
        table.add_row(*cells, style="bold" if row.get("dimension") == POOLED and "method" not in row else None)
    (console or Console()).print(table)


def save_json(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write the rows as a JSON list, whole or not at all; NaN becomes null."""
    write_json(path, [{key: _plain(value) for key, value in row.items()} for row in rows])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
