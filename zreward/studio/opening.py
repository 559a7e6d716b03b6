"""A project and its database, for commands that work on them without pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from zreward.studio.database import connect, sessions, upgrade
from zreward.studio.project import Project
from zreward.studio.rubric_versions import newest_version


@contextmanager
def open_project(folder: Path, database: str | None = None) -> Iterator[tuple[Project, Session]]:
    """The project with a session; its database is upgraded first. `database`: URL in place of the project's own.

    InputError for a database that holds no project.
    """
    project = Project(folder, database)
    engine = connect(project.database_url)
    try:
        upgrade(engine)
        with sessions(engine)() as session:
            newest_version(session)
            yield project, session
    finally:
        engine.dispose()
