"""Figures that others published, from `quoted.yaml`: marked as quoted wherever they are shown."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from zreward.bench.figures import FIGURES

FILE = Path(__file__).with_name("quoted.yaml")


def quoted_for(suites: Collection[str]) -> list[dict[str, Any]]:
    """A row for each model: suite, dimension, figure, model, value, source, note; of the suites that are asked about."""
    rows = []
    for one in yaml.safe_load(FILE.read_text(encoding="utf-8")):
        assert one["figure"] in FIGURES, one["figure"]
        if one["suite"] in suites:
            common = {key: one[key] for key in ("suite", "dimension", "figure", "source")} | {
                "note": one.get("note", "")
            }
            rows += [common | {"model": model, "value": value} for model, value in one["values"].items()]
    return rows
