"""A new blind comparison from two folders of pictures."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tqdm import tqdm

from zreward.common.errors import InputError, check_counts
from zreward.studio.storage.schema import OVERALL, Study, StudyPair
from zreward.studio.storage.study_pictures import copies, match_pictures

MOST_NAME = 80  # letters


def add_study(
    session: Session,
    folder: Path,
    before: Path,
    after: Path,
    dimensions: Sequence[str],
    *,
    name: str | None = None,
    aspects: Sequence[str] = (),
    raters_per_pair: int = 3,
    seed: int | None = None,
) -> Study:
    """Copy two folders' pictures into the project `folder`, and commit a study of them.

    Args:
        folder: The project's folder.
        before, after: Folders of pictures, paired by prompt and seed.
        dimensions: Those of the rubric.
        name: What raters see; default "Study" and a number.
        aspects: What is asked about each pair, in order: "overall" (the default), or some of `dimensions`.
        raters_per_pair: 1 or more.
        seed: Draws the sides. The default is random, so that nobody can predict them.

    Raises:
        InputError: an aspect or a count is wrong, the name is taken, or the folders cannot be paired.
    """
    check_counts(raters_per_pair=raters_per_pair)
    asked = _check_aspects(list(aspects) or [OVERALL], dimensions)
    name = _check_name(session, name)
    with copies(folder) as copier:
        study = Study(
            name=name,
            before=_system(before, after),
            after=_system(after, before),
            aspects=asked,
            raters_per_pair=raters_per_pair,
            seed=secrets.randbits(31) if seed is None else seed,
        )
        for match in tqdm(match_pictures(before, after), desc="copying", unit="pair"):
            study.pairs.append(
                StudyPair(
                    prompt=match.prompt,
                    tags=list(match.tags),
                    before=copier.copy(match.before),
                    after=copier.copy(match.after),
                )
            )
        session.add(study)
        session.commit()
    return study


def _check_aspects(aspects: list[str], dimensions: Sequence[str]) -> list[str]:
    known = [OVERALL, *dimensions]
    unknown = [aspect for aspect in aspects if aspect not in known]
    if unknown or len(set(aspects)) != len(aspects):
        raise InputError(f"study: aspects {aspects}; expected some of {', '.join(known)}, none of them twice")
    return aspects


def _check_name(session: Session, name: str | None) -> str:
    """The name that raters see; by default a number, because folder names would tell them what is compared."""
    if name is None:
        number = 1 + (session.scalar(select(func.max(Study.id))) or 0)
        name = f"Study {number}"
    name = name.strip()
    if not 1 <= len(name) <= MOST_NAME:
        raise InputError(f"study: a name of {len(name)} letters; expected 1 to {MOST_NAME}")
    if session.scalar(select(Study.id).where(Study.name == name)):
        raise InputError(f"study: there is one named {name!r} already; choose another with --name")
    return name


def _system(folder: Path, other: Path) -> str:
    """What the result calls a side: the folder's name, or its whole path where both have the same name."""
    folder, other = folder.resolve(), other.resolve()
    return folder.name if folder.name != other.name else str(folder)
