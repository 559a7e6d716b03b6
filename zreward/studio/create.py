"""`zreward studio init`: a project from a folder of pictures, or from records.

The project appears whole, or not at all. Pictures are copied in, so that nothing outside the folder is needed later.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.temporary import sweep, temporary_folder
from zreward.data import Record
from zreward.data.folders import read_folder
from zreward.rubric import Rubric
from zreward.studio import accounts
from zreward.studio.adding import Picture, add_pictures
from zreward.studio.database import connect, sessions, upgrade
from zreward.studio.import_files import ForeignLabel
from zreward.studio.importing import take_labels
from zreward.studio.project import Project, ProjectSettings, write_settings
from zreward.studio.rubric_versions import add_version


def init(
    folder: Path,
    pictures: Iterable[Picture],
    rubric: Rubric,
    settings: ProjectSettings,
    administrator: str = "admin",
    seed: int = 0,
    ratings: Sequence[ForeignLabel] = (),
) -> str:
    """Make the project; returns the token of the administrator's invitation. InputError where `folder` holds something."""
    with _new_folder(folder) as made:
        write_settings(made, settings)
        project = Project(made)
        project.secret()
        engine = connect(project.database_url)
        try:
            upgrade(engine)
            with sessions(engine)() as session:
                if accounts.has_people(session):
                    raise InputError(f"database {engine.url!r} holds a project already; name an empty one")
                add_version(session, rubric)
                add_pictures(session, project, pictures, rubric, random.Random(f"studio {seed}"))
                if ratings:
                    take_labels(session, project, ratings, Path(), "the records")
                _, token = accounts.invite(session, administrator, "administrator")
        finally:
            engine.dispose()
    return token


def from_folder(folder: Path, prompt: str | None = None) -> tuple[list[Picture], str]:
    """Pictures of a folder, by its pictures.jsonl or all of one `prompt`; and a note of what was skipped ("": nothing)."""
    found, note = read_folder(folder, prompt)
    return [Picture(each.prompt, each.path, each.path.name, tags=each.tags) for each in found], note


def from_records(records: Iterable[Record], name: str) -> Iterator[Picture]:
    """The pictures of records; `name` is that of their file. Their ratings are `import_records.labels_of`."""
    for number, record in enumerate(records):
        image = Path(record.image) if isinstance(record.image, str) else record.image
        assert isinstance(image, Path | bytes)
        key = record.id or f"{name}-{number:06d}"
        yield Picture(record.prompt, image, key, record.group, record.split, tuple(record.tags))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that becomes it when the block ends well."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already and is not an empty folder; name a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    with temporary_folder(folder.parent) as box:
        made = box / "new" / folder.name
        made.parent.mkdir()
        made.mkdir(mode=0o700)  # people's names and passwords' hashes are in it, whatever the umask
        yield made
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
