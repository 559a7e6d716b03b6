"""What every run directory holds besides its recipe: versions and metrics."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from zreward.files import to_json

METRICS = "metrics.jsonl"


def versions() -> dict[str, str]:
    """What a result depends on besides the recipe."""
    import peft
    import transformers

    import zreward

    return {
        "zreward": zreward.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "platform": platform.platform(),
    }


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The steps of a run's metrics.jsonl."""
    return [json.loads(line) for line in (Path(run) / METRICS).read_text().splitlines()]


def append_metrics(run: str | Path, row: dict[str, Any]) -> None:
    with (Path(run) / METRICS).open("a", encoding="utf-8") as file:
        file.write(to_json(row, indent=None) + "\n")
