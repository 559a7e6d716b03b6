"""Labels made elsewhere into the project: all of a file, or nothing.

A picture that the project has already (the same bytes, for the same prompt) is recognised, any other is copied in. Raters
become annotators who cannot sign in, named NAME (imported); their labels are audited and exported as everybody's. Importing
a file again adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError, shown
from zreward.data import load_records
from zreward.rubric import Rubric
from zreward.studio.domain.import_files import ForeignLabel, read_labels
from zreward.studio.domain.import_pictures import ImportedPictures
from zreward.studio.domain.import_records import ENDINGS, labels_of
from zreward.studio.domain.import_references import image_path, is_url
from zreward.studio.domain.problems import Problems
from zreward.studio.domain.rubric_versions import read_version
from zreward.studio.storage.project import Project
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import Label, User


@dataclass(frozen=True)
class ImportReport:
    """How many labels, raters and pictures are new, and how many labels were known."""

    labels: int
    raters: int
    pictures: int
    known: int

    def __str__(self) -> str:
        parts = [
            f"{_count(self.labels, 'label')} by {_count(self.raters, 'rater')}",
            _count(self.pictures, "new picture"),
        ]
        before = f"; {self.known} {'was' if self.known == 1 else 'were'} there already" if self.known else ""
        return ", ".join(parts) + before


def import_file(session: Session, project: Project, path: Path, images: Path | None = None) -> ImportReport:
    """Commit the labels of a file, and the pictures that they need: all of it, or nothing.

    Args:
        path: CSV, Label Studio's JSON export, or records with ratings (.jsonl, .parquet).
        images: The folder in which pictures are looked for; default the file's. Records name their pictures themselves.

    Raises:
        InputError: the file cannot be read, or a label does not fit the project; it names up to 20 places.
    """
    if path.suffix.lower() in ENDINGS:
        if images is not None:
            raise InputError(
                "--images does nothing here: records say themselves where their pictures are; leave it out"
            )
        foreign = labels_of(load_records(path), path.stem)
        if not foreign:
            raise InputError(f"{path}: there is no rating in its records")
    else:
        foreign = read_labels(path)
    return take_labels(session, project, foreign, images or path.parent, str(path))


def take_labels(
    session: Session, project: Project, foreign: Sequence[ForeignLabel], folder: Path, source: str
) -> ImportReport:
    """Commit labels and the pictures that they need. InputError, and nothing of `source`, where one of them does not fit."""
    version = newest_version(session)
    rubric, pictures = read_version(version), ImportedPictures(session, project)
    raters, named = _Raters(session), _Named()
    added, problems = 0, Problems(f"nothing was imported from {source}")
    try:
        for label in foreign:
            with problems.of(label.place):
                _check(label, rubric)
                if isinstance(label.image, bytes):
                    candidate = pictures.candidate(label.image, label.prompt)
                else:
                    found = named.once(label.image, label.prompt, image_path(label.image, folder))
                    candidate = pictures.candidate(found, label.prompt)
                added += raters.add(label, candidate, version.version)
        problems.refuse()
        session.commit()
    except BaseException:
        session.rollback()
        pictures.remove_copies()
        raise
    return ImportReport(added, len(raters.ids), pictures.added, len(foreign) - added)


def _check(label: ForeignLabel, rubric: Rubric) -> None:
    rubric.dimension(label.dimension)
    if label.score is not None:
        rubric.scale.validate(label.score)


class _Named:
    """Which reference each picture was found by: a server's two pictures of one name must not become one here."""

    def __init__(self) -> None:
        self.by: dict[tuple[Path, str], str] = {}

    def once(self, image: str, prompt: str, path: Path) -> Path:
        first = self.by.setdefault((path, prompt), image)
        if first != image and is_url(image):
            raise InputError(
                f"image {image!r} would be {path}, and so would {first!r}; put them into folders as on the server"
            )
        return path


class _Raters:
    """The imported raters by name, and what each has said."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ids: dict[str, int] = {}
        self.said: dict[tuple[int, int, str], float | None] = {}

    def add(self, label: ForeignLabel, candidate: int, version: str) -> bool:
        """False when the label was there already; InputError when it was there with another score."""
        user = self.ids.get(label.rater) or self._user(label.rater)
        key = (user, candidate, label.dimension)
        if key in self.said:
            if self.said[key] != label.score:
                raise InputError(
                    f"{label.rater!r} gave this picture {_show(self.said[key])} on {label.dimension} already, "
                    f"now {_show(label.score)}"
                )
            return False
        self.said[key] = label.score
        self.session.add(
            Label(
                user_id=user,
                candidate_id=candidate,
                dimension=label.dimension,
                score=label.score,
                seconds=label.seconds,
                rubric_version=version,
            )
        )
        return True

    def _user(self, rater: str) -> int:
        name = f"{rater} (imported)"
        if len(name) > 80 or not name.isprintable():
            raise InputError(f"rater {shown(rater)}: expected at most 69 printable characters")
        user = self.session.scalar(select(User).where(User.name == name))
        if user is None:
            user = User(name=name, role="annotator", active=False)
            self.session.add(user)
            self.session.flush()
        else:
            rows = select(Label.candidate_id, Label.dimension, Label.score).where(
                Label.user_id == user.id, Label.occasion == 0
            )
            self.said |= {(user.id, row.candidate_id, row.dimension): row.score for row in self.session.execute(rows)}
        self.ids[rater] = user.id
        return user.id


def _show(score: float | None) -> str:
    return "no score" if score is None else f"{score:g}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
