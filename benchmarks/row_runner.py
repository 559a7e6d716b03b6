"""Runs the rows of a benchmark one after another, within a time.

A row that fails is recorded as text, and one for which no time is left is named.
"""

from __future__ import annotations

import gc
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

Figures = dict[str, Any]
_LETTERS = 400  # of an error or a warning


class RowRunner:
    """Keeps the figures of every row, and writes them to a JSON file after each: what is there survives a kill.

    Args:
        budget: seconds from the start of the process. A row that is still running then ends with an error.
        file: of the figures; None writes none.
        facts: what the file says beside the rows.
    """

    def __init__(self, budget: float, file: Path | None, facts: Figures) -> None:
        self.budget, self.file, self.facts = budget, file, facts
        self.rows: dict[str, Figures] = {}
        self._began = psutil.Process().create_time()

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self._began + self.budget - time.time()

    def run(self, name: str, call: Callable[[], Figures]) -> None:
        """The figures of `call`, or an "error"; a "skipped" where the budget is spent. With the warnings that came."""
        if self.left <= 0:
            self.rows[name] = {"skipped": f"the {self.budget:.0f} s were spent"}
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                self.rows[name] = self._figures(call)
            texts = {_short(str(one.message)) for one in caught if issubclass(one.category, UserWarning)}
            if texts:
                self.rows[name]["warnings"] = sorted(texts)
            gc.collect()  # after the error is gone, whose traceback held tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        print(table_row(name, self.rows[name]), flush=True)
        self.write()

    def _figures(self, call: Callable[[], Figures]) -> Figures:
        try:
            with at_most(self.left):
                return dict(call())
        except Exception as error:  # memory, a kernel that refuses, a fault of ours: the other rows are wanted
            return {"error": _short(f"{type(error).__name__}: {error}")}

    def write(self) -> None:
        if self.file:
            text = json.dumps(self.facts | {"seconds": self.budget - self.left, "rows": self.rows}, indent=1)
            self.file.write_text(text + "\n")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TimeoutError in the block when the seconds are over. In the main thread only."""

    def stop(*_: object) -> None:
        raise TimeoutError("the time of the whole run was over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def table_row(name: str, figures: Figures) -> str:
    """A row of a Markdown table; rows of another run (`rows`) are left out."""
    values = (f"{key.replace('_', ' ')} {_shown(value)}" for key, value in figures.items() if key != "rows")
    return f"| {name.replace('_', ' ')} | {'; '.join(values)} |"


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _short(text: str) -> str:
    return " ".join(text.split())[:_LETTERS]
