"""A project is a folder: settings, pictures, database, and the secret that signs its sessions."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from zreward.common.config import load_config
from zreward.common.errors import InputError
from zreward.common.files import write_text
from zreward.common.temporary import sweep_tree

SETTINGS, SECRET, DATABASE = "project.yaml", ".secret", "studio.sqlite"
UNSENT = ".export-"  # what a file for download is called while it is made


@dataclass(frozen=True)
class ProjectSettings:
    """What project.yaml may say."""

    name: str = "Studio"
    raters_per_item: int = 3  # annotators who rate each picture on each dimension
    accuracy_threshold: float = 0.7  # share of gold items within half a point; annotators below it are not exported
    # Of what an annotator gets, hidden repetitions are at least this share; 0: there are none.
    repeat_share: float = 0.05
    database: str | None = None  # URL; default: an SQLite file in the project

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("project: name is empty; expected a text")
        if self.raters_per_item < 1:
            raise InputError(f"project: raters_per_item is {self.raters_per_item}; expected 1 or more")
        for key in ("accuracy_threshold", "repeat_share"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"project: {key} is {getattr(self, key)}; expected a share from 0 to 1")


class Project:
    """An opened project. `folder` is absolute; paths in the database are relative to it."""

    def __init__(self, folder: str | Path, database_url: str | None = None) -> None:
        self.folder = Path(folder).resolve()
        if not (self.folder / SETTINGS).is_file():
            raise InputError(f"{folder}: not a studio project (no {SETTINGS}); create one with `zreward studio init`")
        self.settings = load_config(ProjectSettings, self.folder / SETTINGS)
        self._database_url = database_url

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def accuracy_threshold(self) -> float:
        return self.settings.accuracy_threshold

    @property
    def raters_per_item(self) -> int:
        return self.settings.raters_per_item

    @property
    def repeat_share(self) -> float:
        return self.settings.repeat_share

    @property
    def database_url(self) -> str:
        """The URL of the command line, else that of project.yaml, else an SQLite file in the folder."""
        from sqlalchemy import URL

        own = URL.create("sqlite", database=str(self.folder / DATABASE))  # a ? or % in the folder's name is escaped
        return self._database_url or self.settings.database or own.render_as_string(hide_password=False)

    def file(self, relative: str) -> Path:
        """A file of the project. InputError for anything that lies outside, through links too."""
        path = (self.folder / relative).resolve()
        if not path.is_relative_to(self.folder) or path == self.folder:
            raise InputError(f"{relative!r} lies outside the project")
        return path

    def remove_leftovers(self) -> None:
        """Delete files that a killed studio had not finished writing or sending."""
        sweep_tree(self.folder)
        for file in self.folder.glob(f"{UNSENT}*"):
            file.unlink(missing_ok=True)

    def secret(self) -> bytes:
        """Random bytes that sign this project's cookies. Made once, readable only by the file's owner."""
        path = self.folder / SECRET
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_bytes()
            if len(found) < 32:
                raise InputError(f"{path}: too short; delete it (everybody signs in again)") from None
            return found
        with os.fdopen(handle, "wb") as file:
            file.write(made := secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        return made


def write_settings(folder: Path, settings: ProjectSettings) -> None:
    """project.yaml with a sentence beside every value."""
    text = (
        "# A project of `zreward studio`.\n"
        f"{_scalar('name', settings.name)}"
        f"raters_per_item: {settings.raters_per_item} # annotators who rate each picture on each dimension\n"
        f"accuracy_threshold: {settings.accuracy_threshold} # share of gold items within half a point, to be exported\n"
        f"repeat_share: {settings.repeat_share} # hidden repetitions in what an annotator gets, at least; 0: none\n"
    )
    if settings.database:
        text += _scalar("database", settings.database)
    write_text(folder / SETTINGS, text)


def _scalar(key: str, text: str) -> str:
    """A line of YAML; quotes, backslashes and line ends in the text are escaped as YAML wants it."""
    return yaml.safe_dump({key: text}, allow_unicode=True, width=float("inf"))
