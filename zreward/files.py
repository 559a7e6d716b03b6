"""Writing small files whole: a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from zreward.data.files import atomic_path


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2))


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
