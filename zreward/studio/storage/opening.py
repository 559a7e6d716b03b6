"""A project and its database, for the pages and for commands that work without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from zreward.studio.storage.database import connect, sessions, upgrade_tables
from zreward.studio.storage.project import Project
from zreward.studio.storage.rubric_rows import newest_version


def open_database(url: str) -> Engine:
    """Connect to a project's database and bring its tables up to date.

    Raises:
        InputError: the database cannot be reached, was made by a newer version, or holds no project.
    """
    engine = connect(url)
    try:
        upgrade_tables(engine)
        with sessions(engine)() as session:
            newest_version(session)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def open_project(folder: Path, database: str | None = None) -> Iterator[tuple[Project, Session]]:
    """The project with a session; its database is upgraded first.

    Args:
        folder: The project's folder.
        database: A URL that is used in place of the project's own.

    Raises:
        InputError: there is no project in the folder, or none in the database.
    """
    project = Project(folder, database)
    engine = open_database(project.database_url)
    try:
        with sessions(engine)() as session:
            yield project, session
    finally:
        engine.dispose()
