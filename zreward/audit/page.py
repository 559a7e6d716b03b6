"""The page and the JSON file of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zreward.audit.findings import Found, Row
from zreward.common.files import write_json
from zreward.evaluation.report.sections import Figure, Section, write_sections

PAGE, JSON = "audit.html", "audit.json"


def to_dict(found: Sequence[Found], settings: Mapping[str, Any], thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON file holds."""
    failures = [line for one in found for line in one.failures]
    return {
        "passed": not failures,
        "failures": failures,
        "settings": dict(settings),
        "thresholds": dict(thresholds),
        "checks": [one.to_dict() for one in found],
    }


def write_audit(
    folder: Path, found: Sequence[Found], settings: Mapping[str, Any], thresholds: Mapping[str, Any]
) -> Path:
    """Write audit.json and audit.html.

    Args:
        folder: where they go; it is made.
        found: of `audit`.
        settings: what was run: names and values.
        thresholds: the limits, as a dictionary.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JSON, to_dict(found, settings, thresholds))
    sections = [_summary(found), *(section for one in found for section in _sections(one))]
    return write_sections(folder / PAGE, "Robustness card", settings, sections, "zreward audit")


def _summary(found: Sequence[Found]) -> Section:
    lines = [
        [one.title, "failed" if one.failures else "passed", f"{len(one.failures)} of {len(one.rows)}"] for one in found
    ]
    failed = sum(len(one.failures) for one in found)
    note = (
        f"{failed} rows exceed their thresholds; they are the first of each table below."
        if failed
        else "No threshold is exceeded."
    )
    return Section("Summary", note, ("check", "verdict", "rows that fail"), lines)


def _sections(one: Found) -> list[Section]:
    names = list(dict.fromkeys(key for row in one.rows for key in row.figures))
    rows = sorted(one.rows, key=lambda row: not row.failed)
    lines = [[row.what, row.dimension, _verdict(row), *(_cell(row.figures.get(key)) for key in names)] for row in rows]
    figures = [Figure(shown.images, shown.caption, shown.text) for shown in one.shown]
    head = ("what", "dimension", "verdict", *(name.replace("_", " ") for name in names))
    table = Section(one.title, one.note, head, lines, 3, figures=figures)
    curves = [
        Section(f"{one.title}: {name}", value="mean score", curves=lines, axis="severity")
        for name, lines in one.curves.items()
    ]
    return [table, *curves]


def _verdict(row: Row) -> str:
    return f"FAILED: {row.verdict}" if row.failed else row.verdict


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
