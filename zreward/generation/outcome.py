"""How an optimisation ended, in the run's folder: outcome.json, and the page that is written last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from zreward.common.files import write_json

OUTCOME, PAGE = "outcome.json", "report.html"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the folder of the weights that are kept, the step they are from, and what stopped it when."""

    model: Path
    step: int
    stopped_at: int
    guard: str | None
    message: str


def is_finished(run: Path) -> bool:
    """The page is written last."""
    return (run / OUTCOME).exists() and (run / PAGE).exists()


def read_outcome(run: Path) -> Outcome:
    """The outcome of a finished run."""
    stored = json.loads((run / OUTCOME).read_text(encoding="utf-8"))
    return Outcome(run / "model", stored["step"], stored["stopped_at"], stored["guard"], stored["message"])


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Write outcome.json."""
    kept = {"step": outcome.step, "stopped_at": outcome.stopped_at, "guard": outcome.guard, "message": outcome.message}
    write_json(run / OUTCOME, kept)
