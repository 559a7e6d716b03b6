"""Verdicts that were reached before in the same environment: one JSON file for each environment, in the user's cache folder.

    ~/.cache/zreward/kernels/<digest of the environment>.json      XDG_CACHE_HOME moves it

A file that is damaged, or somebody else's, counts for nothing and is written anew. A disk that refuses costs a check.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from math import inf, isfinite
from pathlib import Path
from typing import Any

from zreward.common.bounded import read_json
from zreward.common.errors import InputError
from zreward.common.files import write_json
from zreward.models.kernels.compare import RIGHT, VERDICTS, WRONG, Verdict

_SCHEMA = 1  # rises with every change to the cases or tolerances: older verdicts are then reached anew


class VerdictCache:
    """Verdicts by kernel and number format, for one environment."""

    def __init__(self, environment: dict[str, str | None]) -> None:
        self._facts = {"schema": _SCHEMA, "environment": environment}
        digest = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:16]
        self.path = _folder() / f"{digest}.json"
        self._verdicts = self._read()

    def get(self, key: str) -> Verdict | None:
        return self._verdicts.get(key)

    def put(self, verdicts: dict[str, Verdict]) -> None:
        """Add to the file, which appears whole. What another process added meanwhile may be lost: it is checked again."""
        if not verdicts:
            return
        self._verdicts |= verdicts
        rows = {key: vars(verdict) for key, verdict in self._verdicts.items()}
        with suppress(InputError):
            write_json(self.path, self._facts | {"verdicts": rows})

    def _read(self) -> dict[str, Verdict]:
        try:
            stored = read_json(self.path)
            if any(stored.get(name) != value for name, value in self._facts.items()):
                return {}
            return {str(key): _verdict(row) for key, row in stored["verdicts"].items()}
        except (InputError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def _verdict(row: dict[str, Any]) -> Verdict:
    """ValueError and others for what `VerdictCache` does not write."""
    kind, difference, reason = row["kind"], row["difference"], row["reason"]
    if kind not in VERDICTS or not isinstance(reason, str):
        raise ValueError(kind)
    if kind == WRONG and difference is None:  # JSON has no infinity
        return Verdict(kind, inf, reason)
    if kind in (RIGHT, WRONG) and not (isinstance(difference, float) and isfinite(difference)):
        raise ValueError(difference)
    return Verdict(kind, difference, reason)


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zreward" / "kernels"
