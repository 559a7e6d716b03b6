"""One page for a study: its settings, tables and curves. Nothing is fetched when it is opened."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from zreward.files import atomic_path, write_text
from zreward.report import plots


@dataclass
class Section:
    """A heading, a note, and a table or curves; curves are also written as a PNG to `picture`."""

    title: str
    note: str = ""
    head: Sequence[str] = ()
    lines: Sequence[Sequence[str]] = ()
    value: str = ""  # what the curves show
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    picture: Path | None = None


def write_study_page(path: Path, title: str, settings: Mapping[str, Any], sections: Sequence[Section]) -> Path:
    """Write the page and its sections' pictures, whole or not at all; returns `path`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = []
    for section in sections:
        plot = plots.learning_curves(section.curves, section.value) if section.curves else None
        if plot and section.picture:
            with atomic_path(section.picture) as temporary:
                temporary.write_bytes(base64.b64decode(plot.split(",", 1)[1]))
        shown.append((section, plot))
    meta = [
        (name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value)
        for name, value in settings.items()
    ]
    write_text(path, environment.get_template("study.html.j2").render(title=title, meta=meta, sections=shown))
    return path
