"""The living rubric: versions that are never changed, only followed by the next one, and examples for its bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import yaml
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.common.yaml_text import parse_yaml
from zreward.rubric import Dimension, Rubric
from zreward.studio.storage import Candidate, Example, RubricVersion

MOST_EXAMPLES = 20  # per bin of a dimension
MOST_SUGGESTED = 20  # of one annotator on a dimension, that quality control has not looked at


def newest_version(session: Session) -> RubricVersion:
    """The version in force."""
    newest = session.scalar(select(RubricVersion).order_by(RubricVersion.id.desc()).limit(1))
    if newest is None:
        raise InputError("the database holds no project; make one in it with `zreward studio init`")
    return newest


def read_version(version: RubricVersion) -> Rubric:
    return _parse(version.text)


@lru_cache(maxsize=64)
def _parse(text: str) -> Rubric:
    """Kept, because every page needs the rubric and reading YAML takes longer than the rest of a page."""
    return Rubric.from_dict(parse_yaml(text, "the rubric"))


def add_version(session: Session, rubric: Rubric, note: str = "", author: int | None = None) -> RubricVersion:
    """Put a rubric in force, under a version name that it does not share with an older one."""
    taken = set(session.scalars(select(RubricVersion.version)))
    if rubric.version in taken:
        rubric = replace(rubric, version=_next(rubric.version, taken))
    text = yaml.safe_dump(rubric.to_dict(), sort_keys=False, allow_unicode=True, width=110)
    version = RubricVersion(version=rubric.version, text=text, note=note.strip(), author_id=author)
    session.add(version)
    session.flush()
    return version


def edit(rubric: Rubric, texts: Mapping[str, str]) -> Rubric:
    """The rubric with the wordings of a form: NAME.title, NAME.question, NAME.SCORE (an anchor; empty takes it away).

    Names, scale and labels stay: scores that were given on them must keep their meaning.
    """
    dimensions = []
    for dimension in rubric.dimensions:
        anchors: dict[int | float, str] = {}
        for score in rubric.scale.bins.tolist():
            text = _text(texts, f"{dimension.name}.{score:g}", dimension.anchors.get(score, ""))
            if text:
                anchors[score] = text
        title = _text(texts, f"{dimension.name}.title", dimension.title)
        question = _text(texts, f"{dimension.name}.question", dimension.question)
        dimensions.append(Dimension(dimension.name, title, question, anchors))
    edited = replace(rubric, dimensions=tuple(dimensions))
    if edited.fingerprint() == rubric.fingerprint():
        raise InputError("nothing was changed; edit a text before saving a new version")
    return edited


def add_example(
    session: Session, rubric: Rubric, version: str, candidate: int, dimension: str, score: float, **about: Any
) -> Example:
    """Show a picture beside a bin; one that was an example of the dimension already moves. `about`: note, author_id."""
    rubric.dimension(dimension)
    rubric.label(score)
    if session.get(Candidate, candidate) is None:
        raise InputError(f"there is no picture {candidate} in this project")
    known = (Example.candidate_id == candidate, Example.dimension == dimension)
    example = session.scalar(select(Example).where(*known))
    if example is None or not example.accepted or example.score != score:
        _check_room(session, dimension, score)
    if example is None:
        example = Example(candidate_id=candidate, dimension=dimension)
        session.add(example)
    example.score, example.rubric_version = score, version
    for name, value in (about | {"accepted": True}).items():
        setattr(example, name, value)
    _flush(session)
    return example


def suggest_example(
    session: Session, version: str, candidate: int, dimension: str, score: float, note: str, author: int
) -> Example:
    """An annotator's suggestion: beside the rubric, and out of the others' queues, only when quality control accepts it.

    InputError where somebody else's example or suggestion is there, and for more than MOST_SUGGESTED that wait.
    """
    example = session.scalar(select(Example).where(Example.candidate_id == candidate, Example.dimension == dimension))
    if example is not None and (example.accepted or example.author_id != author):
        raise InputError("this picture is an example, or suggested as one, already; only quality control changes it")
    if example is None:
        own = (Example.author_id == author, Example.dimension == dimension, Example.accepted.is_(False))
        if (session.scalar(select(func.count(Example.id)).where(*own)) or 0) >= MOST_SUGGESTED:
            raise InputError(
                f"{MOST_SUGGESTED} pictures that you suggested wait for quality control; suggest more when it has looked"
            )
        example = Example(candidate_id=candidate, dimension=dimension, author_id=author, accepted=False)
        session.add(example)
    example.score, example.rubric_version, example.note = score, version, note
    _flush(session)
    return example


def accept_example(session: Session, example: Example) -> None:
    """Put a suggestion beside its bin; not committed."""
    if not example.accepted:
        _check_room(session, example.dimension, example.score)
        example.accepted = True


def _check_room(session: Session, dimension: str, score: float) -> None:
    full = select(func.count(Example.id)).where(
        Example.dimension == dimension, Example.score == score, Example.accepted
    )
    if (session.scalar(full) or 0) >= MOST_EXAMPLES:
        raise InputError(
            f"{dimension} {score:g} has {MOST_EXAMPLES} examples already; take one away on the rubric page first"
        )


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError:  # somebody else added the same picture at the same moment
        session.rollback()
        raise InputError("somebody else has just made an example of this picture; look at the rubric page") from None


def _text(texts: Mapping[str, str], key: str, before: str) -> str:
    """A form sends line ends as CR LF; a field that is not in it leaves the text as it was."""
    return "\n".join(texts[key].strip().splitlines()) if key in texts else before


def _next(version: str, taken: set[str]) -> str:
    """ "3" after "2"; of any other name "NAME.2", "NAME.3"."""
    if version.isdecimal():
        number = int(version)
        while str(number) in taken:
            number += 1
        return str(number)
    number = 2
    while f"{version}.{number}" in taken:
        number += 1
    return f"{version}.{number}"
