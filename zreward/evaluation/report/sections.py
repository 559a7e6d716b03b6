"""One page of sections: settings, then tables, curves and pictures. Nothing is fetched when it is opened."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from zreward.common.files import atomic_path, write_text
from zreward.evaluation.report import plots
from zreward.evaluation.report.inline import STRIP, THUMBNAIL, embed
from zreward.evaluation.report.templates import template


@dataclass
class Figure:
    """Pictures side by side under one caption, and a line of text below."""

    images: Sequence[Image.Image]
    caption: str = ""
    text: str = ""


@dataclass
class Section:
    """A heading, a note, and a table, curves or figures; curves are also written as a PNG to `picture`."""

    title: str
    note: str = ""
    head: Sequence[str] = ()
    lines: Sequence[Sequence[str]] = ()
    names: int = 2  # how many of the first columns are names, on the left
    value: str = ""  # what the curves show
    axis: str = "step"  # over what
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    picture: Path | None = None
    figures: Sequence[Figure] = ()
    wide: bool = False  # each figure is a strip of many pictures: it takes the whole width


def write_sections(
    path: Path, title: str, settings: Mapping[str, Any], sections: Sequence[Section], written_by: str
) -> Path:
    """Write an HTML page and its sections' curve pictures, each file atomically.

    Args:
        path: the .html file.
        title: heading of the page.
        settings: what was run: names and values.
        sections: the page's content.
        written_by: the command, for the footer.

    Returns:
        `path`.
    """
    meta = [
        (name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value)
        for name, value in settings.items()
    ]
    page = template("sections.html.j2")
    write_text(path, page.render(title=title, meta=meta, sections=prepare(sections), written_by=written_by))
    return path


def prepare(sections: Sequence[Section]) -> list[tuple[Section, str | None, list[Any]]]:
    """What the template `section_list` shows: each section with its plot and its embedded pictures."""
    shown = []
    for section in sections:
        plot = plots.learning_curves(section.curves, section.value, section.axis) if section.curves else None
        if plot and section.picture:
            with atomic_path(section.picture) as temporary:
                temporary.write_bytes(base64.b64decode(plot.split(",", 1)[1]))
        longest = STRIP if section.wide else THUMBNAIL
        figures = [([embed(image, longest) for image in figure.images], figure) for figure in section.figures]
        shown.append((section, plot, figures))
    return shown
