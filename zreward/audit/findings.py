"""What checks return: rows of figures with a verdict in words, and what a page shows beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Row:
    """One thing that was tried, on one dimension (or on all: "").

    `verdict` is a sentence; `failed` says that a threshold is exceeded.
    """

    what: str
    dimension: str
    figures: Mapping[str, float]
    verdict: str
    failed: bool = False


@dataclass(frozen=True)
class Shown:
    """Pictures side by side for the page."""

    images: list[Image.Image]
    caption: str
    text: str = ""


@dataclass
class Found:
    """The result of one check: its rows, and pictures and curves for the page. A curve is {name: [(x, y)]}."""

    name: str
    title: str
    note: str
    rows: list[Row] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        return [f"{self.name}: {sentence(row)}" for row in self.rows if row.failed]

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {"what": row.what, "dimension": row.dimension or None, "figures": dict(row.figures)}
            | {"verdict": row.verdict, "failed": row.failed}
            for row in self.rows
        ]
        return {"check": self.name, "title": self.title, "failed": any(row.failed for row in self.rows), "rows": rows}


def sentence(row: Row) -> str:
    """What was tried, on which dimension, and the verdict, in one line."""
    return f"{row.what}, {row.dimension}: {row.verdict}" if row.dimension else f"{row.what}: {row.verdict}"


def fall_of(points: float) -> str:
    """In words: falls by 0.50 points, or rises."""
    return f"{'falls' if points >= 0 else 'rises'} by {abs(points):.2f} points"
