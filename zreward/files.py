"""Files that appear whole or not at all: a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from threading import get_ident
from typing import Any

from zreward.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path`, moved onto it when the block ends well and removed when it does not.

    The folder is made when missing. OSError becomes InputError naming `path`: a full disk or a read-only folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name or 'file'}.{os.getpid()}-{get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_json(value: Any, indent: int | None = 2) -> str:
    """JSON that any reader takes: null in the place of NaN and infinities."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, to_json(value))


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    write_text(path, "".join(to_json(row, indent=None) + "\n" for row in rows))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value
