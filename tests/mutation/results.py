"""What became of every mutant, in a file that grows by one line each; and the verdicts on survivors in docs/testing.md."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from mutants import Mutant, mutants

# - `zreward/evaluation/metrics.py`: `` before `` → `` after ``
_VERDICT = re.compile(r"- `(?P<module>[\w/]+\.py)`: `` (?P<before>.+) `` → `` (?P<after>.+) ``")


class Results:
    def __init__(self, folder: Path, reasons: set[tuple[str, str, str]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._file, self._reasons = folder, folder / "results.jsonl", reasons
        rows = [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []
        self._known = {row["key"]: row["outcome"] for row in rows}

    def outcome(self, mutant: Mutant) -> str:
        """killed, survived or unknown"""
        return self._known.get(mutant.key, "unknown")

    def verdict(self, mutant: Mutant) -> bool:
        return (mutant.module, mutant.before, mutant.after) in self._reasons

    def undecided(self, mutant: Mutant) -> bool:
        known = self.outcome(mutant)
        return known == "unknown" or (known == "survived" and not self.verdict(mutant))

    def add(self, mutant: Mutant, outcome: str, killer: str, seconds: float) -> None:
        self._known[mutant.key] = outcome
        row = {"key": mutant.key, "outcome": outcome, "by": killer, "seconds": round(seconds, 2), "mutant": str(mutant)}
        with self._file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def verdicts(page: Path) -> set[tuple[str, str, str]]:
    """(module, before, after) of every survivor that the page lists."""
    lines = page.read_text().splitlines() if page.exists() else []
    found = [match for line in lines if (match := _VERDICT.fullmatch(line.strip()))]
    return {(match["module"], match["before"], match["after"]) for match in found}


def stale(root: Path, verdicts: set[tuple[str, str, str]], plan: Collection[str]) -> list[tuple[str, str, str]]:
    """Verdicts on mutants that do not exist (any more)."""
    found = []
    for module in sorted({module for module, _, _ in verdicts}):
        mine = {each for each in verdicts if each[0] == module}
        if module in plan:
            source = (root / module).read_text()
            lines = {number for _, before, _ in mine for number in _lines_of(source, before)}
            mine -= {(module, each.before, each.after) for each in mutants(module, source, lines)}
        found += sorted(mine)
    return found


def _lines_of(source: str, before: str) -> Iterator[int]:
    """The numbers of the lines that a verdict joins into one, wherever they stand."""
    lines = [line.strip() for line in source.splitlines()]
    for start, first in enumerate(lines):
        end = start
        while first and before.startswith(" ".join(lines[start:end])) and end < len(lines):
            end += 1
            if " ".join(lines[start:end]) == before:
                yield from range(start + 1, end + 1)
