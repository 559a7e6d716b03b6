"""The living rubric: versions that are never changed, only followed by the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import yaml
from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.common.yaml_text import parse_yaml
from zreward.rubric import Dimension, Rubric
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import RubricVersion


def rubric_in_force(session: Session) -> Rubric:
    """The newest version. InputError when the database holds no project."""
    return read_version(newest_version(session))


def read_version(version: RubricVersion) -> Rubric:
    """The rubric of a row."""
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


def edit_rubric(rubric: Rubric, texts: Mapping[str, str]) -> Rubric:
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
