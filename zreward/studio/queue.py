"""What an annotator rates next on a dimension, and how far along he is.

In this order: labels that quality control sent back; now and then a picture that he has rated before (to measure how far he
agrees with himself); else a picture that still needs raters, gold items among them, which everybody rates. Pictures come
in an order of his own that scatters the candidates of a prompt, and nothing tells which items are hidden ones.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
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
class Queue:
    """One annotator's work on one dimension: what comes now, labels given, items left, median seconds of the last labels."""

    task: Task | None
    done: int
    left: int
    pace: float | None


def read_queue(session: Session, user: User, dimension: str, raters: int, repeat_share: float) -> Queue:
    """`task` is None when nothing is left, and the same until it is answered: a page loaded again shows the same picture."""
    done = session.scalar(select(func.count()).select_from(Label).where(*_own(user, dimension))) or 0
    returned = list(session.scalars(_returned(user, dimension)))
    fresh = list(session.scalars(_fresh(user, dimension, raters)))
    return Queue(
        _task(session, user, dimension, done, returned, fresh, repeat_share),
        done,
        len(fresh) + len(returned),
        _pace(session, user, dimension),
    )


def _task(
    session: Session,
    user: User,
    dimension: str,
    done: int,
    returned: Sequence[Label],
    fresh: Sequence[int],
    repeat_share: float,
) -> Task | None:
    if returned:
        return Task(returned[0].candidate, dimension, returned[0].occasion, returned[0])
    due = random.Random(f"{user.id} {dimension} {done}").random() < repeat_share
    if due or not fresh:
        again = _repetition(session, user, dimension, DISTANCE if fresh else 0)
        if again is not None:
            return Task(again, dimension, occasion=1)
    if not fresh:
        return None
    candidate = session.get(Candidate, min(fresh, key=lambda number: _place(user, number)))
    assert candidate is not None
    return Task(candidate, dimension)


def last_label(session: Session, user: User, dimension: str) -> Label | None:
    """What he answered last: for undo."""
    latest = select(Label).where(*_own(user, dimension)).order_by(Label.changed.desc(), Label.id.desc())
    return session.scalar(latest.limit(1))


def _own(user: User, dimension: str) -> tuple[ColumnElement[bool], ...]:
    return Label.user_id == user.id, Label.dimension == dimension


def _returned(user: User, dimension: str):
    return select(Label).where(*_own(user, dimension), Label.state == "returned").order_by(Label.changed)


def _pace(session: Session, user: User, dimension: str) -> float | None:
    last = select(Label.seconds).where(*_own(user, dimension), Label.seconds.is_not(None))
    seconds = [one for one in session.scalars(last.order_by(Label.id.desc()).limit(PACE_OVER)) if one is not None]
    return statistics.median(seconds) if seconds else None


def _fresh(user: User, dimension: str, raters: int):
    """Ids of pictures without a label of his that have too few raters, or are gold."""
    mine, theirs = aliased(Label), aliased(Label)
    of_picture = (theirs.candidate_id == Candidate.id, theirs.dimension == dimension, theirs.occasion == 0)
    count = select(func.count()).select_from(theirs).where(*of_picture).scalar_subquery()
    rated = exists().where(mine.candidate_id == Candidate.id, mine.dimension == dimension, mine.user_id == user.id)
    gold = exists().where(Gold.candidate_id == Candidate.id, Gold.dimension == dimension)
    return select(Candidate.id).where(~rated, or_(gold, count < raters))


def _place(user: User, candidate: int) -> int:
    """Where a picture stands in this annotator's order."""
    return candidate * (_STRIDE * (user.id + 1) % _PRIME) % _PRIME


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
    return min(session.scalars(chosen), key=lambda one: _place(user, one.id), default=None)
