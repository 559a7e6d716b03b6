"""Tables of metrics: their columns, printed in the terminal."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zreward.common.files import write_text
from zreward.distribution import ScoreScale

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


_OPTIONAL = ("n_items", "truncated", "ece", "nll", "crps", "tie_rate", "srcc")
"""What a narrow terminal hides, the first one first."""


UNDEFINED = "–"


def format_value(value: float | None, digits: int) -> str:
    """A number for a table; a dash for what is undefined."""
    return UNDEFINED if value is None or not isfinite(value) else f"{value:.{digits}f}"


def print_table(
    rows: Sequence[Mapping[str, Any]], title: str, scale: ScoreScale, console: Console | None = None
) -> None:
    """Print rows of `metrics_table` in the terminal. Columns without values are left out.

    Numbers are never cut: output to a file gets the width it needs; a narrow terminal hides the first of `_OPTIONAL`.

    Args:
        rows: the rows, possibly with `model` and `method`.
        title: above the table.
        scale: the rubric's scale, for the caption.
        console: where to print; default standard output.
    """
    caption = (
        f"Scores from {scale.min:g} to {scale.max:g} in steps of {scale.step:g}. HPA: share of same-prompt pairs "
        f"ordered as people do; margin HPA: of those more than {MARGIN:g} apart."
    )
    notes = {"crps": "CRPS and ECE in score points, NLL in nats."}
    print_rows(rows, COLUMNS, title, caption, notes, _OPTIONAL, console)


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    known: Sequence[Column],
    title: str,
    caption: str,
    notes: Mapping[str, str] | None = None,
    optional: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print rows of any metrics, as `print_table` does; a metric with an interval has it below in its cell.

    Args:
        rows: possibly with `model`, `method`, `dimension` and `trace`; KEY_low and KEY_high are the interval of the metric KEY.
        known: the columns, of which those without values are left out.
        title: above the table.
        caption: below it.
        notes: further sentences below it, each by the key of the column without which it is left out.
        optional: keys of columns that a narrow terminal hides, the first one first.
        console: where to print; default standard output.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    names = [key for key in ("model", "method", "dimension", "trace") if any(key in row for row in rows)]
    columns = {name: (name, [str(row.get(name, "")) for row in rows]) for name in names}
    for column in known:
        if any(column.key in row for row in rows):
            columns[column.key] = (column.title, [_cell(row, column) for row in rows])
    width = {key: max(map(len, [*title.split(), *_lines(cells)])) for key, (title, cells) in columns.items()}
    dropped: list[str] = []
    for key in optional:
        if key in columns and sum(width.values()) + 2 * len(width) + 2 > console.width:
            dropped.append(columns.pop(key)[0])
            del width[key]
    caption = " ".join([caption, *(note for key, note in (notes or {}).items() if key in columns)])
    if dropped:
        caption += f" Hidden, the terminal is too narrow: {', '.join(dropped)}."
    table = Table(
        title=escape(title),
        caption=caption,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    for key, (heading, _) in columns.items():
        table.add_column(heading, justify="left" if key in names else "right", min_width=width[key])
    for index, row in enumerate(rows):
        pooled = row.get("dimension") == POOLED and "method" not in names
        table.add_row(*[escape(cells[index]) for _, cells in columns.values()], style="bold" if pooled else None)
    console.print(table)


def _cell(row: Mapping[str, Any], column: Column) -> str:
    text = format_value(row.get(column.key), column.digits)
    low, high = (row.get(f"{column.key}_{end}") for end in ("low", "high"))
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return text
    return f"{text}\n{format_value(low, column.digits)}–{format_value(high, column.digits)}"


def _lines(cells: Sequence[str]) -> list[str]:
    return [line for cell in cells for line in cell.splitlines()]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows of `metrics_table` as a CSV file, numbers unrounded, an empty cell for what is undefined; returns `path`."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if isinstance(value, float) and not isfinite(value) else value for key, value in row.items()}
        )
    write_text(path, text.getvalue())
    return path
