"""Rows of published files, one after the other: JSON, JSON lines, or Parquet files, never whole in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from zreward.common.errors import InputError, shown
from zreward.data.rows import as_json
from zreward.data.sources import SourceRow, json_lines

_TOGETHER = 64  # Parquet rows in memory at a time; fewer where they are large
_PIECE = 1 << 20  # characters of JSON read at a time
_MOST = 64 << 20  # characters of one object of a JSON list
_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(path: Path, key: str = "") -> Iterator[SourceRow]:
    """The objects of a JSON list, or of an object of objects, each with its first line.

    Args:
        path: the file.
        key: where the list is a value of an object, its key.

    Raises:
        InputError: with the line, where the file holds something else.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Scanner(file, path).objects(key)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def json_line_rows(path: Path) -> Iterator[SourceRow]:
    """The objects of JSON lines, each with its line; what is none is a bad row."""
    return json_lines(path, "an object")


def parquet_rows(files: Iterable[Path], needed: Iterable[str], more: Iterable[str] = ()) -> Iterator[SourceRow]:
    """Rows of Parquet files with the columns `needed`, and `more` where they are there; rows count from 0 in each file.

    InputError for a file that lacks one of the columns `needed`.
    """
    import pyarrow as pa

    from zreward.data.parquet_batches import opened, rows_of

    for path in files:
        try:
            with opened(path) as file:
                there = file.schema_arrow.names
                missing = [name for name in needed if name not in there]
                if missing:
                    raise InputError(f"{path}: columns {missing} are missing; there are {', '.join(there)}")
                columns = [name for name in (*needed, *more) if name in there]
                for number, row in enumerate(rows_of(file, columns, _TOGETHER)):
                    yield SourceRow(number, f"{path}:row {number}", row, row)
        except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: not a Parquet file that can be read: {reason}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def split_of_shard(path: Path) -> str:
    """The split of a hub's file SPLIT-00000-of-00012.parquet, with or without a hash behind it; else the file's stem."""
    return re.sub(r"-\d{5}-of-\d{5}.*", "", path.stem)


class _Scanner:
    """A JSON file, taken apart object by object."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.line = "", 0, 1

    def objects(self, key: str) -> Iterator[SourceRow]:
        if key:
            yield from self._under(key)
            return
        close, named = ("}", True) if self._next() == "{" else ("]", False)
        yield from self._members("{" if named else "[", close, named)
        if self._next():
            raise InputError(f"{self.path}:{self.line}: more text after the end of the list")

    def _under(self, key: str) -> Iterator[SourceRow]:
        self._take("{", f"an object with the key {key!r}")
        while self._next() != "}":
            name = self._key()
            if name == key:
                yield from self._members("[", "]", False)
                return
            self._value()
            if self._next() != "}":
                self._take(",")
        raise InputError(f"{self.path}:{self.line}: no key {key!r} in the object")

    def _members(self, start: str, close: str, named: bool) -> Iterator[SourceRow]:
        self._take(start)
        while self._next() != close:
            line = self.line
            if named:
                self._key()
            value, place = self._value(), f"{self.path}:{line}"
            if isinstance(value, dict):
                yield SourceRow(line, place, value, value)
            else:
                yield SourceRow(line, place, as_json(value), None, f"{shown(value)}, expected an object")
            if self._next() != close:
                self._take(",")
        self._take(close)

    def _key(self) -> str:
        if self._next() != '"':
            self._take('"')
        name = str(self._value())
        self._take(":")
        self._next()
        return name

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

    def _take(self, expected: str, of: str = "a JSON list of objects") -> None:
        found = self._next()
        if found != expected:
            what = repr(found) if found else "the file ends"
            raise InputError(f"{self.path}:{self.line}: {what}, expected {expected!r} of {of}")
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
