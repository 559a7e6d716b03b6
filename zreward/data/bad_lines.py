"""What happens to bad lines: one error that names them, or a file of skipped lines."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.files import atomic_path

SHOWN = 20  # bad lines named in one error; reading stops there


class BadLine(NamedTuple):
    """`number` of the line or row, `place` for a person to look up ("ratings.jsonl:3"), `text` as it came.

    `image` is the file that the line names as its picture, where it does.
    """

    number: int
    place: str
    reason: str
    text: str
    image: str | None = None


class BadLines:
    """Collects the bad lines of one source.

    Without `skip`, InputError names them all, at the end of the source or as soon as there are SHOWN. With `skip` they
    are written to `report` as JSON lines {line, reason, text}; a report left by an earlier run goes when all is well.
    """

    def __init__(self, name: str, skip: bool = False, report: str | os.PathLike[str] | None = None) -> None:
        self.name, self.skip, self.report = name, skip, Path(report) if report is not None else None
        self.lines: list[BadLine] = []
        self.good = 0

    def add(self, line: BadLine) -> None:
        self.lines.append(line)
        if not self.skip and len(self.lines) >= SHOWN:
            self._refuse(f"{len(self.lines)} bad lines, and reading stopped there")

    def finish(self, good: int) -> None:
        """Call once, with the number of good lines."""
        self.good = good
        if self.lines and not self.skip:
            self._refuse("1 bad line" if len(self.lines) == 1 else f"{len(self.lines)} bad lines")
        where = self._write() if self.skip else ""
        if self.lines:
            tqdm.write(f"{self.name}: skipped {len(self.lines)} of {len(self.lines) + good} lines{where}", sys.stderr)
        if not good:
            found = f"all {len(self.lines)} lines of it are bad{where}" if self.lines else "it is empty"
            raise InputError(f"{self.name}: {found}; expected at least one record")

    def _refuse(self, count: str) -> None:
        shown = [f"{line.place}: {line.reason}" for line in self.lines[:SHOWN]]
        advice = "correct them, or skip them with --skip-bad (in a recipe: data.skip_bad=true)"
        raise InputError("\n".join([*shown, f"{count} in {self.name}; {advice}"]))

    def _write(self) -> str:
        if self.report is None:
            return "".join(f"\n  {line.place}: {line.reason}" for line in self.lines[:SHOWN])
        if not self.lines:
            self.report.unlink(missing_ok=True)
            return ""
        with atomic_path(self.report) as temporary, temporary.open("w", encoding="utf-8") as file:
            for line in self.lines:
                row = {"line": line.number, "reason": line.reason, "text": line.text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return f", written to {self.report}"
