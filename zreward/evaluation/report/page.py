"""Collects a run's tables, plots and examples and writes `report.html`, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zreward.common.errors import InputError
from zreward.common.files import write_text
from zreward.distribution import ScoreScale
from zreward.evaluation.report import plots
from zreward.evaluation.report.inline import embed
from zreward.evaluation.report.sections import Section, prepare
from zreward.evaluation.report.templates import template
from zreward.evaluation.tables import COLUMNS, MARGIN, POOLED, Column, format_value

MODEL_ORDER = ("large", "small")


@dataclass
class ExampleDimension:
    """One dimension of an example: what people gave, what each method predicted, what the teacher thought."""

    human: Sequence[float]
    predictions: Mapping[str, Any] = field(default_factory=dict)
    """Per method the probabilities [S]."""
    trace: str = ""


@dataclass
class ReportExample:
    """An image shown with its distributions."""

    image: Image.Image
    prompt: str
    dimensions: Mapping[str, ExampleDimension]


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    scatter: Mapping[str, tuple[Any, Any]],
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    calibration: Mapping[str, tuple[Any, Any]],
    examples: Sequence[ReportExample],
    rubric_scale: ScoreScale,
    notes: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
    pair_calibration: Mapping[str, tuple[Any, Any]] | None = None,
    examples_note: str = "Under them, what the teacher wrote before it scored.",
) -> Path:
    """Write one HTML page that loads nothing else; sections without content are left out.

    Args:
        path: the .html file.
        title: heading of the page.
        rows: metrics rows: dimension, model, method and any of the columns of `zreward.evaluation.tables`.
        scatter: method -> human and expected scores, [N] both.
        curves: plot title -> line name -> (step, value).
        calibration: method -> probabilities and ratings per bin, [N, S] both.
        examples: pictures with scores.
        rubric_scale: the rubric's scale, for the axes.
        notes: sentences below the table.
        meta: what was run, seed, versions; numbers under "seconds" or "duration" are shown as time, mappings as lists.
        sections: further sections, after the examples.
        pair_calibration: name -> P(a better than b) [P] and the raters' votes [P, 3] of pairs of pictures.
        examples_note: a sentence above the examples.

    Returns:
        The file's path.
    """
    if not rows:
        raise InputError("report: no rows of metrics; evaluate something first")
    pooled = [row for row in rows if row.get("dimension") == POOLED] or list(rows)
    several = len(pooled) > 1  # methods to compare
    page = template("template.html.j2").render(
        title=title,
        scale=rubric_scale,
        margin=MARGIN,
        meta=[(str(name).replace("_", " "), _meta(name, value)) for name, value in (meta or {}).items()],
        notes=list(notes),
        several=several,
        results=_table(pooled if several else rows, with_dimension=not several),
        by_dimension=_by_dimension(rows) if several else None,
        details=_table(rows, with_dimension=True) if several and len(rows) > len(pooled) else None,
        accuracy=[(model or "all models", plots.accuracy_bars(part)) for model, part in _by_model(pooled).items()]
        if several
        else [],
        scatter=[(n, plots.score_scatter(n, *xy, rubric_scale, i)) for i, (n, xy) in enumerate(scatter.items())],
        curves=[(n, plot) for n, series in curves.items() if (plot := plots.learning_curves(series))],
        calibration=[
            (n, *(plot(n, *pc, rubric_scale, i) for plot in (plots.reliability, plots.spread, plots.coverage)))
            for i, (n, pc) in enumerate(calibration.items())
        ],
        pair_calibration=[
            (n, plots.pair_reliability(n, *said, i)) for i, (n, said) in enumerate((pair_calibration or {}).items())
        ],
        examples=[_example(example, rubric_scale) for example in examples],
        examples_note=examples_note,
        human_colour=plots.HUMAN,
        sections=prepare(sections),
    )
    write_text(path, page)
    return Path(path)


def _by_model(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows grouped by model (large, small, then others as they come), best HPA first within a group."""
    groups: dict[str, list[Mapping[str, Any]]] = {name: [] for name in MODEL_ORDER}
    for row in rows:
        groups.setdefault(str(row.get("model", "")), []).append(row)
    return {name: sorted(part, key=lambda row: -_number(row.get("hpa"))) for name, part in groups.items() if part}


def _table(rows: Sequence[Mapping[str, Any]], with_dimension: bool = False) -> dict[str, Any]:
    """{"titles", "groups": [(model, [(names, cells)])]}; a cell is (text, is it the column's best in its group)."""
    columns = [column for column in COLUMNS if any(column.key in row for row in rows)]
    groups = []
    for model, part in _by_model(rows).items():
        if with_dimension:
            order = list(dict.fromkeys(row["dimension"] for row in rows))
            part = sorted(part, key=lambda row: order.index(row["dimension"]))
        best = {c.key: _best(part, c) for c in columns} if not with_dimension else {}
        lines = []
        for row in part:
            names = [str(row.get("method", ""))] + ([str(row["dimension"])] if with_dimension else [])
            cells = [format_value(row.get(c.key), c.digits) for c in columns]
            lines.append((names, [(text, text == best.get(c.key)) for c, text in zip(columns, cells, strict=True)]))
        groups.append((model, lines))
    names = ["method"] + (["dimension"] if with_dimension else [])
    return {"names": names, "titles": [column.title for column in columns], "groups": groups}


def _by_dimension(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """HPA of every method on every dimension, as `_table` gives it; None without several dimensions."""
    dimensions = [d for d in dict.fromkeys(row.get("dimension") for row in rows) if d not in (POOLED, None)]
    if len(dimensions) < 2:
        return None
    column = next(column for column in COLUMNS if column.key == "hpa")
    groups = []
    pooled_first = sorted(rows, key=lambda row: row.get("dimension") != POOLED)
    for model, part in _by_model(pooled_first).items():
        methods = dict.fromkeys(row["method"] for row in part if row["dimension"] == POOLED)
        methods |= dict.fromkeys(row["method"] for row in part)
        best = {d: _best([row for row in part if row["dimension"] == d], column) for d in dimensions}
        found = {(row["method"], row["dimension"]): format_value(row.get("hpa"), column.digits) for row in part}
        lines = []
        for method in methods:
            texts = {d: found.get((method, d), "–") for d in dimensions}
            lines.append(([str(method)], [(text, text == best[d]) for d, text in texts.items()]))
        groups.append((model, lines))
    return {"names": ["method"], "titles": [str(d) for d in dimensions], "groups": groups}


def _best(rows: Sequence[Mapping[str, Any]], column: Column) -> str | None:
    """The best value of a column as shown; None when there is nothing to be better than."""
    texts = {format_value(row.get(column.key), column.digits) for row in rows}
    values = [float(row[column.key]) for row in rows if _number(row.get(column.key)) > -np.inf]
    if not column.best or not values or len(texts) < 2:
        return None
    return format_value(max(values) if column.best > 0 else min(values), column.digits)


def _number(value: Any) -> float:
    return float(value) if value is not None and isfinite(value) else -np.inf


def _meta(name: Any, value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " · ".join(map(str, value))
    if isinstance(value, (int, float)) and str(name) in ("seconds", "duration"):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return str(value)


def _example(example: ReportExample, scale: ScoreScale) -> dict[str, Any]:
    image, pixelated = embed(example.image)
    dimensions = []
    for name, part in example.dimensions.items():
        human = [float(score) for score in part.human]
        charts = []
        if human:
            label = "1 person" if len(human) == 1 else f"{len(human)} people"
            charts.append(_chart(label, scale.histogram(human).numpy(), scale, plots.HUMAN))
        for index, (method, probs) in enumerate(part.predictions.items()):
            charts.append(_chart(method, np.asarray(probs, dtype=float), scale, plots.method_colour(method, index)))
        dimensions.append({"name": name, "charts": charts, "trace": part.trace.strip()})
    return {"image": image, "pixelated": pixelated, "prompt": example.prompt, "dimensions": dimensions}


def _chart(name: str, probs: np.ndarray, scale: ScoreScale, colour: str) -> dict[str, Any]:
    """Bars of a distribution in a box of 100 x 30 units, and where its mean lies in it."""
    bins = scale.bins.double().numpy()
    if probs.shape != bins.shape or not np.isfinite(probs).all():
        raise ValueError(f"example {name!r}: probabilities of shape {probs.shape}, expected [{len(bins)}] finite ones")
    mean = float(probs @ bins)
    std = float(np.sqrt(max(probs @ bins**2 - mean**2, 0)))
    width = 100 / len(bins)
    heights = 30 * probs / max(float(probs.max()), 1e-9)
    bars = [(round(k * width + 0.1 * width, 2), round(30 - h, 2), round(h, 2)) for k, h in enumerate(heights)]
    listed = ", ".join(f"{b:g}: {p:.0%}" for b, p in zip(bins, probs, strict=True) if p >= 0.005)
    return {
        "name": name,
        "mean": f"{mean:.2f}",
        "std": f"{std:.2f}",
        "mark": round(((mean - scale.min) / scale.step + 0.5) * width, 2),
        "bars": bars,
        "width": round(0.8 * width, 2),
        "colour": colour,
        "listed": listed,
    }
