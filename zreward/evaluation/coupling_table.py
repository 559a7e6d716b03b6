"""The figures of `zreward.evaluation.coupling`: a row per dimension and kind of trace, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from zreward.data.record import Record
from zreward.evaluation.coupling import EMPTY, OTHERS, SWAP, Coupling, Reading, examples
from zreward.evaluation.coupling_edits import DIRECTIONS
from zreward.evaluation.intervals import bootstrap
from zreward.evaluation.metrics import Array, pair_counts
from zreward.evaluation.report.sections import Figure, Section
from zreward.evaluation.tables import POOLED, Column, format_value, print_rows

OWN, EDITS = "own", "edits"
COLUMNS = (
    Column("n_items", "traces", 0, 0),
    Column("unedited", "no edit", 0, 0),
    Column("right", "right way", 3, 1),
    Column("weight", "weight", 2, 1),
    Column("hpa", "HPA", 3, 1),
    Column("shift", "shift", 2, 0),
    Column("moved", "moved", 2, 0),
    Column("correlation", "r", 2, 1),
)
CAPTION = (
    "The same picture scored after other traces, 95 % intervals over prompts. right way: share of edits after which mu moved as "
    "the edit says; no edit: traces without such an edit, not counted; weight: points that mu moves for a point in the trace, "
    "the picture held fixed; HPA: after such traces; shift and moved: mean signed and absolute change of mu in score points "
    "(of edits together, towards the right way); r: correlation of a swap's change with the difference of the two pictures' "
    "own mu, or of an edit's change with its known points."
)


def coupling_table(coupling: Coupling, records: Sequence[Record], resamples: int = 1000) -> list[dict[str, Any]]:
    """The rows: for each dimension, and all together, the own traces, each kind of other trace, and all edits.

    Args:
        coupling: what was read.
        records: the same records.
        resamples: draws of prompts behind the intervals; 0: no intervals.

    Returns:
        Dictionaries with dimension, trace, and what that trace has of the keys of `COLUMNS`; KEY_low and KEY_high are the
        interval of KEY.
    """
    names = list(coupling.predictions.dimensions)
    mu = coupling.predictions.mean.double().numpy()
    said = np.array([mu[n, names.index(each)] for n, each in coupling.items])
    rows = []
    for name in [*names, POOLED] if len(names) > 1 else names:
        own = [m for m, (_, each) in enumerate(coupling.items) if name in (each, POOLED)]
        readings = [one for one in coupling.readings if name in (one.dimension, POOLED)]
        rows.append(_agreement(name, OWN, coupling, records, own, said, resamples))
        for kind in OTHERS:
            mine = [one for one in readings if one.kind == kind]
            row = {"dimension": name, "trace": kind, "n_items": len(mine)}
            if kind in DIRECTIONS:
                row["unedited"] = len(own) - len(mine)
            rows.append(row | _figures(mine, records, resamples))
            if kind in (SWAP, EMPTY):
                changed = np.array([one.changed for one in coupling.readings if one.kind == kind])
                hpa = _agreement(name, kind, coupling, records, own, changed, resamples)
                rows[-1] |= {key: value for key, value in hpa.items() if key.startswith("hpa")}
        edits = [one for one in readings if one.kind in DIRECTIONS]
        edited = {(one.record, one.dimension) for one in edits}
        row = {"dimension": name, "trace": EDITS, "n_items": len(edits), "unedited": len(own) - len(edited)}
        rows.append(row | _figures(edits, records, resamples))
    return rows


def _agreement(
    name: str,
    trace: str,
    coupling: Coupling,
    records: Sequence[Record],
    own: Sequence[int],
    said: Array,
    resamples: int,
) -> dict[str, Any]:
    """HPA after these traces; `said` is mu of all M items."""
    correct, pairs, prompts = counts_by_prompt([coupling.items[m] for m in own], said[list(own)], records)
    row: dict[str, Any] = {"dimension": name, "trace": trace, "n_items": len(own)}
    return row | _estimate("hpa", lambda chosen: _ratio(correct[chosen], pairs[chosen]), prompts, resamples)


def counts_by_prompt(
    items: Sequence[tuple[int, str]], said: Array, records: Sequence[Record]
) -> tuple[Array, Array, list[str]]:
    """Behind HPA: pairs ordered as people do and all pairs, [P] each, of the P prompts.

    Args:
        items: record and dimension of each score.
        said: the scores [M].
        records: all of them.
    """
    members: dict[str, dict[str, list[int]]] = {}
    for m, (n, name) in enumerate(items):
        members.setdefault(records[n].group_key, {}).setdefault(name, []).append(m)
    target = np.array([records[n].score(name) for n, name in items], dtype=float)
    found = [
        [pair_counts(said[same], target[same], [0] * len(same)) for same in of_prompt.values()]
        for of_prompt in members.values()
    ]
    correct = np.array([sum(one.correct for one in each) for each in found], dtype=float)
    return correct, np.array([sum(one.pairs for one in each) for each in found], dtype=float), list(members)


def _ratio(part: Array, whole: Array) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else float("nan")


def _figures(readings: Sequence[Reading], records: Sequence[Record], resamples: int) -> dict[str, Any]:
    """Of readings of one kind, or of edits of all kinds: then a shift counts towards the right way."""
    if not readings:
        return {}
    kinds = {one.kind for one in readings}
    mu, shift = (np.array([getattr(one, key) for one in readings]) for key in ("mu", "shift"))
    figures: dict[str, Callable[[Any], float]] = {"moved": lambda chosen: float(np.abs(shift[chosen]).mean())}
    if kinds <= set(DIRECTIONS):
        towards = shift * np.array([DIRECTIONS[one.kind] for one in readings])
        figures["right"] = lambda chosen: float((towards[chosen] > 0).mean())
        signed = shift if len(kinds) == 1 else towards
        points = [one.points for one in readings]
        if None not in points:
            known = np.array(points, dtype=float)
            figures["correlation"] = lambda chosen: _correlation(known[chosen], shift[chosen])
            figures["weight"] = lambda chosen: _slope(known[chosen], shift[chosen])
    else:
        signed = shift
        if kinds == {SWAP}:
            other = np.array([one.other for one in readings], dtype=float)
            figures["correlation"] = lambda chosen: _correlation((other - mu)[chosen], shift[chosen])
            figures["weight"] = lambda chosen: _trace_weight(mu[chosen], other[chosen], (mu + shift)[chosen])
    figures["shift"] = lambda chosen: float(signed[chosen].mean())
    group = [records[one.record].group_key for one in readings]
    return {k: v for key, figure in figures.items() for k, v in _estimate(key, figure, group, resamples).items()}


def _estimate(key: str, figure: Callable[[Any], float], group: Sequence[Any], resamples: int) -> dict[str, float]:
    """A figure of chosen items, and its interval over their groups."""
    if not resamples:
        return {key: figure(np.arange(len(group)))}
    found = bootstrap(lambda chosen, _: figure(chosen), group, resamples)
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def _correlation(x: Array, y: Array) -> float:
    """Pearson's; NaN where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-12 else float("nan")


def _slope(x: Array, y: Array) -> float:
    """Of y = slope * x, by least squares."""
    return float(x @ y) / float(x @ x) if (x @ x) > 1e-12 else float("nan")


def _trace_weight(mu: Array, other: Array, changed: Array) -> float:
    """w of changed = v mu + w other + c by least squares: what mu takes from the trace, the picture's own mu held fixed.

    A correlation with the difference cannot tell: both it and the change contain -mu.
    """
    if len(mu) < 3:
        return float("nan")
    solution, _, rank, _ = np.linalg.lstsq(np.stack([mu, other, np.ones_like(mu)], 1), changed, rcond=None)
    return float(solution[1]) if rank == 3 else float("nan")


def print_coupling(
    rows: Sequence[dict[str, Any]], coupling: Coupling, title: str, console: Console | None = None
) -> None:
    """Print the table in the terminal: all rows of all dimensions together, of single ones the edits.

    Args:
        rows: of `coupling_table`.
        coupling: what they are of.
        title: above the table.
        console: where to print; default standard output.
    """
    several = any(row["dimension"] == POOLED for row in rows)
    shown = [row for row in rows if not several or row["trace"] == EDITS or row["dimension"] == POOLED]
    print_rows(shown, COLUMNS, title, f"{CAPTION} {_note(coupling)}", None, ("moved", "shift", "unedited"), console)


def _note(coupling: Coupling) -> str:
    return f"{coupling.rewritten} of {len(coupling.traces)} traces become other tokens when their text is read back."


def coupling_section(
    rows: Sequence[dict[str, Any]], coupling: Coupling, records: Sequence[Record], count: int = 6
) -> Section:
    """The table as a section of the page, with the edits after which mu moved furthest the wrong way.

    Args:
        rows: of `coupling_table`.
        coupling: what they are of.
        records: the same records.
        count: at most this many pictures.
    """
    shown = [column for column in COLUMNS if any(column.key in row for row in rows)]
    lines = [[row["dimension"], row["trace"], *(_text(row, column) for column in shown)] for row in rows]
    figures = [
        Figure(
            records[one.record].open_images(),
            f"{records[one.record].prompt}: {one.dimension}",
            f"{one.kind}: {own} → {one.text}; mu {one.mu:.2f} → {one.changed:.2f}",
        )
        for one, own in examples(coupling, count)
    ]
    note = f"{CAPTION} {_note(coupling)}"
    if figures:
        note += f" Below the table: the {len(figures)} edits after which mu moved furthest the wrong way."
    head = ["dimension", "trace", *(column.title for column in shown)]
    return Section("Does the score follow the reasoning?", note, head, lines, figures=figures)


def _text(row: dict[str, Any], column: Column) -> str:
    text = format_value(row.get(column.key), column.digits) if column.key in row else ""
    low, high = (row.get(f"{column.key}_{end}") for end in ("low", "high"))
    if (
        column.key not in ("right", "weight", "hpa")
        or low is None
        or high is None
        or not np.isfinite([low, high]).all()
    ):
        return text  # the page's width is for the figures that decide
    return f"{text} ({low:.2f} to {high:.2f})"
