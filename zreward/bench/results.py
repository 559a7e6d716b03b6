"""The results of a run: one JSON document and one Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zreward.bench.figures import FIGURES
from zreward.bench.run import Measured, differences, rows_of
from zreward.bench.suite import Suite
from zreward.evaluation.tables import format_value

SCHEMA = 1
HEAD = ("suite", "dimension", "figure", "model", "value", "95 % interval", "answers", "prompts")


def document(
    suites: Sequence[Suite], measured: Sequence[Measured], quoted: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, for a program: suites, a row per figure, differences, quoted figures, what was run."""
    return {
        "schema_version": SCHEMA,
        "suites": [
            {
                "name": one.name,
                "official": one.official,
                "official_title": FIGURES[one.official].title,
                "source": one.source,
                "kind": one.kind,
                "items": len(one.items),
                "pictures": len(one.pictures),
                "prompts": one.prompts,
            }
            for one in suites
        ],
        "results": list(rows_of(measured)),
        "differences": list(differences(measured)),
        "quoted": [dict(one) for one in quoted],
        "run": dict(meta),
    }


def table_lines(
    suites: Sequence[Suite], measured: Sequence[Measured], quoted: Sequence[Mapping[str, Any]], every: bool = False
) -> list[list[str]]:
    """Lines under `HEAD`: per suite and dimension the official figure of each model, then quoted ones; `every`: all figures."""
    lines = []
    for suite in suites:
        own = [one for one in measured if one.suite is suite]
        for dimension in dict.fromkeys(one.dimension for one in own):
            here = [one for one in own if one.dimension == dimension]
            keys = [key for key in FIGURES if every or key == suite.official]
            for key in keys:
                lines += [_line(one, key) for one in here if key in one.figures]
        lines += [
            _quoted_line(one)
            for one in quoted
            if one["suite"] == suite.name and (every or one["figure"] == suite.official)
        ]
    return lines


def _line(one: Measured, key: str) -> list[str]:
    found = one.figures[key]
    interval = interval_text(found.low, found.high)
    counts = [f"{len(one.answers.number):,}", f"{len(set(one.answers.group)):,}"]
    return [
        one.suite.name,
        one.dimension,
        FIGURES[key].title,
        one.model,
        format_value(found.value, 4),
        interval,
        *counts,
    ]


def sources_of(quoted: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where quoted figures were read, a sentence for each suite and source."""
    found = dict.fromkeys((one["suite"], one["source"], one["note"]) for one in quoted)
    return [f"quoted figures of {suite}: {source}.{f' {note}' if note else ''}" for suite, source, note in found]


def interval_text(low: float, high: float) -> str:
    return f"{format_value(low, 3)} to {format_value(high, 3)}"


def _quoted_line(one: Mapping[str, Any]) -> list[str]:
    title, model = FIGURES[one["figure"]].title, f"{one['model']} (quoted)"
    return [one["suite"], one["dimension"], title, model, f"{one['value']:g}", "", "", ""]


def markdown(lines: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table, and notes below it."""
    rows = [HEAD, ["---"] * 4 + ["---:"] * 4, *lines]
    escaped = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([*escaped, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"
