"""New projects (`zreward studio init`) from a folder of pictures or from records, and new studies (`zreward compare --study`).

Pictures are copied in, so that nothing outside the project's folder is needed later.
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
from zreward.data.images import encoded
from zreward.rubric import Rubric
from zreward.studio.domain import accounts
from zreward.studio.domain.adding import NewPicture, add_pictures
from zreward.studio.domain.import_files import ForeignLabel
from zreward.studio.domain.importing import take_labels
from zreward.studio.domain.rubric_versions import add_version, rubric_in_force
from zreward.studio.domain.study_creation import add_study
from zreward.studio.storage.database import connect, sessions, upgrade_tables
from zreward.studio.storage.opening import open_project
from zreward.studio.storage.project import Project, ProjectSettings, write_settings


def create_project(
    folder: Path,
    pictures: Iterable[NewPicture],
    rubric: Rubric,
    settings: ProjectSettings,
    administrator: str = "admin",
    seed: int = 0,
    ratings: Sequence[ForeignLabel] = (),
) -> str:
    """Make a project in `folder`, which appears whole or not at all.

    Args:
        folder: A new or empty folder.
        pictures: Copied into the project.
        rubric: The first version in force.
        administrator: The name of the first person.
        seed: Draws hidden items among the pictures whose truth is known.
        ratings: Labels that are taken in.

    Returns:
        The token of the administrator's invitation.

    Raises:
        InputError: the folder or the database holds something, or a picture or a rating cannot be used.
    """
    with _new_folder(folder) as made:
        write_settings(made, settings)
        project = Project(made)
        project.secret()
        engine = connect(project.database_url)
        try:
            upgrade_tables(engine)
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


def create_study(
    project: Path, before: Path, after: Path, name: str | None, aspects: Sequence[str], raters: int
) -> str:
    """`zreward compare A B --study PROJECT`; returns a sentence about the new study. The arguments are `add_study`'s."""
    with open_project(project) as (opened, session):
        dimensions = rubric_in_force(session).dimension_names
        study = add_study(
            session, opened.folder, before, after, dimensions, name=name, aspects=aspects, raters_per_pair=raters
        )
        return f"{study.name}: {len(study.pairs)} pairs, {raters} raters each; zreward studio {project}, page /studies"


def from_folder(folder: Path, prompt: str | None = None) -> tuple[list[NewPicture], str]:
    """Pictures of a folder, by its pictures.jsonl or all of one `prompt`; and a note of what was skipped ("": nothing)."""
    found, note = read_folder(folder, prompt)
    return [NewPicture(each.prompt, each.path, each.path.name, tags=each.tags) for each in found], note


def from_records(records: Iterable[Record], name: str) -> Iterator[NewPicture]:
    """The pictures of records; `name` is that of their file. Their ratings are `import_records.labels_of`."""
    for number, record in enumerate(records):
        image = Path(record.image) if isinstance(record.image, str) else encoded(record.image)
        key = record.id or f"{name}-{number:06d}"
        yield NewPicture(record.prompt, image, key, record.group, record.split, tuple(record.tags))


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
