"""Examples: pictures beside the rubric's bins, put there by quality control or suggested by annotators."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.domain.rating import own_label
from zreward.studio.storage.schema import CandidatePicture, Example, User

MOST_EXAMPLES = 20  # per bin of a dimension
MOST_SUGGESTED = 20  # of one annotator on a dimension, that quality control has not looked at


def examples_shown_to(session: Session, user: User, dimension: str) -> dict[float, list[Example]]:
    """Score -> the examples of a dimension, and what this person has suggested."""
    chosen = select(Example).options(joinedload(Example.candidate)).where(Example.dimension == dimension)
    chosen = chosen.where(or_(Example.accepted, Example.author_id == user.id))
    examples: dict[float, list[Example]] = {}
    for example in session.scalars(chosen.order_by(Example.id)):
        examples.setdefault(example.score, []).append(example)
    return examples


def own_score(session: Session, user: User, candidate: int, dimension: str) -> float:
    """The score that an annotator gave a picture. InputError where there is none."""
    label = own_label(session, user, candidate, dimension)
    if label is None or label.final is None:
        raise InputError("only a picture that you have rated can become an example")
    return label.final


def add_example(
    session: Session, rubric: Rubric, version: str, candidate: int, dimension: str, score: float, **about: Any
) -> Example:
    """Show a picture beside a bin; one that was an example of the dimension already moves. `about`: note, author_id."""
    rubric.dimension(dimension)
    rubric.label(score)
    if session.get(CandidatePicture, candidate) is None:
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
