"""How far a campaign is: labels given and wanted by dimension and person, and when it ends at the present pace.

Two queries for each dimension, whatever the number of people. A label counts as in the queue: the first answers of annotators
who are not excluded; a picture wants as many as the project's raters per item, a gold item one of everybody.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session

from zreward.studio.storage.schema import CandidatePicture, Example, Gold, Label, User, now

OVER = timedelta(days=7)  # from whose labels the pace per day is taken
SECONDS_OVER = 200  # labels of a person, from whose seconds the time of one is taken


@dataclass(frozen=True)
class DimensionProgress:
    """Labels on one dimension. `given` counts no more than are wanted of a picture."""

    dimension: str
    wanted: int
    given: int

    @property
    def left(self) -> int:
        return self.wanted - self.given


@dataclass(frozen=True)
class PersonProgress:
    """One annotator: labels given and still open by dimension, median seconds of a label, the time of the last."""

    user: User
    done: dict[str, int]
    left: dict[str, int]
    seconds: float | None
    last: datetime | None


@dataclass(frozen=True)
class CampaignProgress:
    """`ends`: when the last label comes at the pace of the last days; None where nobody has rated lately, or nothing is left."""

    dimensions: Sequence[DimensionProgress]
    people: Sequence[PersonProgress]
    per_day: float
    ends: datetime | None

    @property
    def left(self) -> int:
        return sum(one.left for one in self.dimensions)


def read_progress(
    session: Session, dimensions: Sequence[str], raters: int, only: User | None = None
) -> CampaignProgress:
    """The campaign's progress.

    Args:
        dimensions: The names of the rubric's dimensions.
        raters: How many annotators rate each picture.
        only: The person whose numbers are wanted; default everybody who may rate or has rated.
    """
    people = [only] if only is not None else _people(session)
    excluded = list(session.scalars(select(User.id).where(User.excluded)))
    counting = len([user for user in _people(session) if user.active and not user.excluded])
    found = [_dimension(session, name, raters, excluded, counting) for name in dimensions]
    done, open_to = _by_person(session, dimensions, raters, excluded)
    own = [
        PersonProgress(
            user,
            {name: done[name].get(user.id, 0) for name in dimensions},
            {name: open_to[name][0] - open_to[name][1].get(user.id, 0) for name in dimensions},
            _seconds(session, user),
            session.scalar(select(func.max(Label.created)).where(Label.user_id == user.id)),
        )
        for user in people
    ]
    per_day = _per_day(session, excluded)
    left = sum(one.left for one in found)
    ends = now() + timedelta(days=min(left / per_day, 36500)) if left and per_day else None
    return CampaignProgress(found, own, per_day, ends)


def _people(session: Session) -> list[User]:
    rated = exists().where(Label.user_id == User.id)
    wanted = select(User).where(User.role == "annotator", or_(User.active, rated)).order_by(User.name)
    return list(session.scalars(wanted))


def _panels(dimension: str, excluded: Sequence[int]) -> Any:
    """(picture, labels that count, is gold) of every picture that comes up on a dimension."""
    counts = [Label.candidate_id == CandidatePicture.id, Label.dimension == dimension, Label.occasion == 0]
    counts += [Label.user_id.not_in(excluded)] if excluded else []
    gold = exists().where(Gold.candidate_id == CandidatePicture.id, Gold.dimension == dimension)
    shown = exists().where(
        Example.candidate_id == CandidatePicture.id, Example.dimension == dimension, Example.accepted
    )
    rows = select(CandidatePicture.id.label("id"), func.count(Label.id).label("count"), gold.label("gold"))
    return rows.outerjoin(Label, and_(*counts)).where(~shown).group_by(CandidatePicture.id).subquery()


def _dimension(
    session: Session, dimension: str, raters: int, excluded: Sequence[int], people: int
) -> DimensionProgress:
    panels = _panels(dimension, excluded)
    rows = select(panels.c.gold, panels.c.count, func.count()).group_by(panels.c.gold, panels.c.count)
    wanted = given = 0
    for gold, count, pictures in session.execute(rows):
        most = max(raters, people) if gold else raters
        wanted += most * pictures
        given += min(count, most) * pictures
    return DimensionProgress(dimension, wanted, given)


def _by_person(
    session: Session, dimensions: Sequence[str], raters: int, excluded: Sequence[int]
) -> tuple[dict[str, dict[int, int]], dict[str, tuple[int, dict[int, int]]]]:
    """By dimension: labels given by each person; and pictures that are open, in all and rated already by each person."""
    done: dict[str, dict[int, int]] = defaultdict(dict)
    rows = select(Label.dimension, Label.user_id, func.count()).group_by(Label.dimension, Label.user_id)
    for dimension, user, count in session.execute(rows):
        done[dimension][user] = count
    open_to = {}
    for name in dimensions:
        panels = _panels(name, excluded)
        is_open = or_(panels.c.gold, panels.c.count < raters)
        total = session.scalar(select(func.count()).select_from(panels).where(is_open)) or 0
        mine = select(Label.user_id, func.count()).join(panels, panels.c.id == Label.candidate_id)
        mine = mine.where(is_open, Label.dimension == name, Label.occasion == 0).group_by(Label.user_id)
        open_to[name] = (total, dict(session.execute(mine).tuples().all()))
    return done, open_to


def _seconds(session: Session, user: User) -> float | None:
    """The median of a person's last labels."""
    last = select(Label.seconds).where(Label.user_id == user.id, Label.seconds.is_not(None))
    seconds = [one for one in session.scalars(last.order_by(Label.id.desc()).limit(SECONDS_OVER)) if one is not None]
    return statistics.median(seconds) if seconds else None


def _per_day(session: Session, excluded: Sequence[int]) -> float:
    """Labels a day since the first of the last days."""
    counts = [Label.created >= now() - OVER, Label.occasion == 0]
    counts += [Label.user_id.not_in(excluded)] if excluded else []
    count, first = session.execute(select(func.count(Label.id), func.min(Label.created)).where(*counts)).one()
    if not count:
        return 0.0
    return count / max((now() - first) / timedelta(days=1), 1 / 24)
