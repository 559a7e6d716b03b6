"""Where each name was read first."""

from __future__ import annotations

import sqlite3
import tempfile

from zreward.common.errors import InputError


class FirstPlaces:
    """Names and the places of their first, in SQLite's temporary file: memory does not grow with the source.

    InputError where the folder of temporary files is full.
    """

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("CREATE TABLE places (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def first(self, name: str, place: str) -> str:
        """The place at which `name` was given first: this one, or an earlier one."""
        key = name.encode()
        try:
            if self._table.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (key, place)).rowcount:
                return place
            return str(self._table.execute("SELECT place FROM places WHERE id = ?", (key,)).fetchone()[0])
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: the ids of the records cannot be noted there ({error}); free disk space, or name "
                "another folder for temporary files in TMPDIR"
            ) from error

    def close(self) -> None:
        self._table.close()
