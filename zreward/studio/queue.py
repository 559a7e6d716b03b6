"""What an annotator rates next on a dimension, and how far along he is.

In this order: labels that quality control sent back; now and then a picture that he has rated before (to measure how far he
agrees with himself); else a picture that still needs raters, gold items among them, which everybody rates. Pictures come
in an order of his own that scatters the candidates of a prompt, and nothing tells which items are hidden ones.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from zreward.studio.storage import Candidate, Gold, Label, Repetition, User

DISTANCE = 8  # labels on a dimension between a picture and its repetition
PACE_OVER = 50  # labels
_PRIME, _STRIDE = 1_000_003, 618_034  # their ratio is nearly the golden one: neighbours land far apart


@dataclass(frozen=True)
class Task:
    """A picture to rate. `occasion` 1 is a hidden repetition; `returned` is the label that came back, if one did."""

    candidate: Candidate
    dimension: str
    occasion: int = 0
    returned: Label | None = None


@dataclass(frozen=True)
class Progress:
    """On one dimension: labels given, items still waiting for this annotator, median seconds of the last labels."""

    done: int
    left: int
    pace: float | None


def next_task(session: Session, user: User, dimension: str, raters: int, repeat_share: float) -> Task | None:
    """None when nothing is left. The same until it is answered, so that a page loaded again shows the same picture."""
    returned = session.scalar(
        select(Label).where(*_own(user, dimension), Label.state == "returned").order_by(Label.changed).limit(1)
    )
    if returned is not None:
        return Task(returned.candidate, dimension, returned.occasion, returned)
    given = session.scalar(select(func.count()).select_from(Label).where(*_own(user, dimension))) or 0
    fresh = session.scalar(_fresh(user, dimension, raters).order_by(_order(user)).limit(1))
    due = random.Random(f"{user.id} {dimension} {given}").random() < repeat_share
    if due or fresh is None:
        again = _repetition(session, user, dimension, DISTANCE if fresh is not None else 0)
        if again is not None:
            return Task(again, dimension, occasion=1)
    return Task(fresh, dimension) if fresh is not None else None


def progress(session: Session, user: User, dimension: str, raters: int) -> Progress:
    given = _own(user, dimension)
    done = session.scalar(select(func.count()).select_from(Label).where(*given)) or 0
    left = session.scalar(select(func.count()).select_from(_fresh(user, dimension, raters).subquery())) or 0
    back = session.scalar(select(func.count()).select_from(Label).where(*given, Label.state == "returned")) or 0
    last = select(Label.seconds).where(*given, Label.seconds.is_not(None)).order_by(Label.id.desc()).limit(PACE_OVER)
    seconds = list(session.scalars(last))
    return Progress(done, left + back, statistics.median(seconds) if seconds else None)  # type: ignore[type-var]


def last_label(session: Session, user: User, dimension: str) -> Label | None:
    """What he answered last: for undo."""
    latest = select(Label).where(*_own(user, dimension)).order_by(Label.changed.desc(), Label.id.desc())
    return session.scalar(latest.limit(1))


def _own(user: User, dimension: str) -> tuple[ColumnElement[bool], ...]:
    return Label.user_id == user.id, Label.dimension == dimension


def _fresh(user: User, dimension: str, raters: int):
    """Pictures without a label of his that have too few raters, or are gold."""
    mine, theirs = aliased(Label), aliased(Label)
    of_picture = (theirs.candidate_id == Candidate.id, theirs.dimension == dimension, theirs.occasion == 0)
    count = select(func.count()).select_from(theirs).where(*of_picture).scalar_subquery()
    rated = exists().where(mine.candidate_id == Candidate.id, mine.dimension == dimension, mine.user_id == user.id)
    gold = exists().where(Gold.candidate_id == Candidate.id, Gold.dimension == dimension)
    return select(Candidate).where(~rated, or_(gold, count < raters))


def _order(user: User) -> ColumnElement[int]:
    """An order of pictures for every user, the same in any database."""
    return (Candidate.id * (_STRIDE * (user.id + 1) % _PRIME)) % _PRIME


def _repetition(session: Session, user: User, dimension: str, distance: int) -> Candidate | None:
    """A picture to repeat whose first label lies far enough back."""
    first, second = aliased(Label), aliased(Label)
    ids = select(Label.id).where(*_own(user, dimension)).order_by(Label.id.desc()).offset(distance).limit(1)
    newest = session.scalar(ids)
    if newest is None:
        return None
    here = and_(Repetition.candidate_id == Candidate.id, Repetition.dimension == dimension)
    before = (first.candidate_id == Candidate.id, first.dimension == dimension, first.user_id == user.id)
    again = (second.candidate_id == Candidate.id, second.dimension == dimension, second.user_id == user.id)
    chosen = (
        select(Candidate)
        .join(Repetition, here)
        .where(
            exists().where(*before, first.occasion == 0, first.id <= newest),
            ~exists().where(*again, second.occasion == 1),
        )
    )
    return session.scalar(chosen.order_by(_order(user)).limit(1))
