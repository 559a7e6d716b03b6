"""A CSV file as a table: which character separates its cells is seen from its header; every row knows its line.

Commas, semicolons, tabs and bars separate; a first line `sep=;`, as Excel writes it, decides. UTF-8, with or without a
byte-order mark. A first column without a name is row numbers, as pandas writes them: it is called `INDEX`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from zreward.common.errors import InputError, shorten, shown
from zreward.common.text_files import read_text
from zreward.data.bad_lines import BadLine, BadLines
from zreward.data.sources import SourceRow

INDEX = "(row numbers)"
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Table:
    """`separator` also tells a decimal comma: where cells are separated by something else, 3,5 is a number."""

    path: Path
    header: tuple[str, ...]
    separator: str
    _rows: tuple[tuple[int, tuple[str, ...]], ...]

    def rows(self) -> Iterator[tuple[int, dict[str, str] | str, str]]:
        """(line, cells by column, the line as it came); in place of the cells the reason why there are none."""
        for line, cells in self._rows:
            text = self.separator.join(cells)
            if len(cells) == len(self.header):
                yield line, dict(zip(self.header, (cell.strip() for cell in cells), strict=True)), text
            else:
                reason = (
                    f"{len(cells)} cells under {len(self.header)} columns; quote a text that holds {self.separator!r}"
                )
                yield line, reason, text


def read_table(path: Path) -> Table:
    """InputError for what is no table: no header, a column without a name or named twice, quotes that do not end."""
    return parse_table(read_text(path, "a table (.csv)"), path)


def parse_table(text: str, path: Path) -> Table:
    """`read_table` of a text that was read already; `path` names it in messages."""
    first, _, rest = text.partition("\n")
    told = first[len("sep=") :].strip(" ") if first.lower().startswith("sep=") else None
    offset = 1 if told else 0
    separator = told or max(_SEPARATORS, key=lambda one: _width(first, one))
    if len(separator) != 1 or separator in '"\r\n':
        raise InputError(
            f"{path}:1: sep={shown(separator)}; expected one character that is neither a quote nor a line's end"
        )
    reader = csv.reader(io.StringIO(rest if told else text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num + offset, tuple(cells)))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num + offset}: not a CSV table: {error}") from None
    if not rows:
        raise InputError(f"{path}: it is empty; expected a header with the names of the columns, and rows")
    header = tuple(cell.strip() for cell in rows[0][1])
    if len(header) > 1 and not header[0] and INDEX not in header:
        header = (INDEX, *header[1:])
    counts = Counter(header)
    for name in header:
        if not name or counts[name] > 1:
            fault = "stands twice" if name else "has no name"
            raise InputError(
                f"{path}:{rows[0][0]}: column {name!r} {fault}; the header is {shorten(', '.join(header), 1000)}"
            )
    return Table(path, header, separator, tuple(rows[1:]))


def use_rows(table: Table, bad: BadLines, use: Callable[[dict[str, str], int], None]) -> None:
    """Call `use` with the cells of every row and its line; a row that it refuses, or that has no cells, is a bad one."""
    for line, cells, text in tqdm(table.rows(), f"reading {table.path.name}", unit=" rows", disable=None):
        try:
            if isinstance(cells, str):
                raise InputError(cells)
            use(cells, line)
        except InputError as error:
            bad.add(BadLine(line, f"{table.path}:{line}", str(error), text))


def table_rows(path: Path, needed: Sequence[str]) -> Iterator[SourceRow]:
    """The rows of a published CSV file, cells as text. InputError where it lacks one of the columns `needed`."""
    table = read_table(path)
    missing = [name for name in needed if name not in table.header]
    if missing:
        raise InputError(f"{path}: columns {missing} are missing; the header is {', '.join(table.header)}")
    for line, cells, text in table.rows():
        data, error = (None, cells) if isinstance(cells, str) else (cells, "")
        yield SourceRow(line, f"{path}:{line}", text, data, error)


def column_called(table: Table, name: str) -> str | None:
    """The column whose name is NAME, whatever its case and with spaces or hyphens for underscores."""
    return next((column for column in table.header if re.sub(r"[\s-]+", "_", column.lower()) == name), None)


def _width(line: str, separator: str) -> int:
    """The cells of a line; none where it is no line of a table."""
    try:
        return len(next(csv.reader([line], delimiter=separator), []))
    except csv.Error:
        return 0
