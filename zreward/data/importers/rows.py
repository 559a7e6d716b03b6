"""Rows of published files, one after the other: a JSON list, JSON lines, or Parquet files, never whole in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from zreward.common.errors import InputError, shown
from zreward.data.sources import SourceRow

_BATCH = 64  # Parquet rows in memory at a time; each may hold pictures
_PIECE = 1 << 20  # characters of JSON read at a time
_MOST = 64 << 20  # characters of one object of a JSON list
_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(path: Path) -> Iterator[SourceRow]:
    """The objects of a JSON list, each with its first line. InputError with the line where it is no JSON list."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Scanner(file, path).objects()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def parquet_rows(files: Iterable[Path], needed: Iterable[str], more: Iterable[str] = ()) -> Iterator[SourceRow]:
    """Rows of Parquet files with the columns `needed`, and `more` where they are there; rows count from 0 in each file.

    InputError for a file that lacks one of the columns `needed`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                there = file.schema_arrow.names
                missing = [name for name in needed if name not in there]
                if missing:
                    raise InputError(f"{path}: columns {missing} are missing; there are {', '.join(there)}")
                columns, number = [name for name in (*needed, *more) if name in there], 0
                for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                    for row in batch.to_pylist():
                        yield SourceRow(number, f"{path}:row {number}", row, row)
                        number += 1
        except (pa.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: not a Parquet file that can be read: {reason}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


class _Scanner:
    """A JSON list, taken apart object by object."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.line = "", 0, 1

    def objects(self) -> Iterator[SourceRow]:
        self._take("[")
        while self._next() != "]":
            line = self.line
            value, place = self._value(), f"{self.path}:{line}"
            if isinstance(value, dict):
                yield SourceRow(line, place, value, value)
            else:
                yield SourceRow(line, place, json.dumps(value), None, f"{shown(value)}, expected an object")
            if self._next() != "]":
                self._take(",")
        self._take("]")
        if self._next():
            raise InputError(f"{self.path}:{self.line}: more text after the end of the list")

    def _next(self) -> str:
        """The next character that is not blank, none at the end of the file."""
        while True:
            match = _SPACE.match(self.text, self.at)
            assert match is not None, "matches nothing, too"
            self._move(match.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def _take(self, expected: str) -> None:
        found = self._next()
        if found != expected:
            what = repr(found) if found else "the file ends"
            raise InputError(f"{self.path}:{self.line}: {what}, expected {expected!r} of a JSON list of objects")
        self.at += 1

    def _value(self) -> Any:
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, self.at)
                if end < len(self.text) or not self._more():  # a number may go on
                    self._move(end)
                    return value
            except (ValueError, RecursionError) as error:
                if len(self.text) - self.at > _MOST or not self._more():
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise InputError(f"{self.path}:{self.line}: not valid JSON: {reason}") from None

    def _move(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def _more(self) -> bool:
        piece = self.file.read(_PIECE)
        self.text, self.at = self.text[self.at :] + piece, 0
        return bool(piece)
