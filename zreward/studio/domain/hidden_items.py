"""The hidden items that annotators are measured by: gold (the score is known) and repetitions (shown twice)."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.storage.schema import CandidatePicture, Gold, Repetition


def set_gold(session: Session, rubric: Rubric, candidate: int, dimension: str, score: float | None) -> None:
    """Commit that a picture is gold with this score; with None that it is gold no longer.

    Raises:
        InputError: the dimension or the picture is unknown, or the score is off the scale.
    """
    rubric.dimension(dimension)
    _check_candidate(session, candidate)
    session.execute(delete(Gold).where(Gold.candidate_id == candidate, Gold.dimension == dimension))
    if score is not None:
        score = rubric.scale.validate(score, "gold score")
        session.add(Gold(candidate_id=candidate, dimension=dimension, score=score))
    session.commit()


def set_repetition(session: Session, rubric: Rubric, candidate: int, dimension: str, repeated: bool) -> None:
    """Commit that everybody who rates a picture gets it a second time, or no longer.

    Raises:
        InputError: the dimension or the picture is unknown.
    """
    rubric.dimension(dimension)
    _check_candidate(session, candidate)
    session.execute(delete(Repetition).where(Repetition.candidate_id == candidate, Repetition.dimension == dimension))
    if repeated:
        session.add(Repetition(candidate_id=candidate, dimension=dimension))
    session.commit()


def draw_repetitions(session: Session, rubric: Rubric, dimension: str, count: int) -> None:
    """Commit up to `count` more repetitions of a dimension, drawn at random from the pictures that are none yet."""
    rubric.dimension(dimension)
    taken = select(Repetition.candidate_id).where(Repetition.dimension == dimension)
    free = list(
        session.scalars(
            select(CandidatePicture.id).where(CandidatePicture.id.not_in(taken)).order_by(CandidatePicture.id)
        )
    )
    for candidate in secrets.SystemRandom().sample(free, min(count, len(free))):
        session.add(Repetition(candidate_id=candidate, dimension=dimension))
    session.commit()


def _check_candidate(session: Session, number: int) -> None:
    if session.get(CandidatePicture, number) is None:
        raise InputError(f"there is no picture {number} in this project")
