"""A running blind comparison: who judges which pair next, on which side each picture is shown, and the verdicts.

A pair is given to `raters_per_pair` people. Somebody who opens one and does not answer holds the place for half an hour. Places
are given and verdicts taken one after the other: each begins by locking the study.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, and_, func, or_, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from zreward.common.errors import InputError
from zreward.studio.domain.study_results import Ballot
from zreward.studio.storage.schema import Assignment, Study, StudyPair, User, Verdict, now

SIDES = ("left", "same", "right")
HELD = timedelta(minutes=30)


@dataclass(frozen=True)
class StudyProgress:
    """Pairs that one rater has finished, and that are left."""

    done: int
    left: int


def next_assignment(session: Session, study_id: int, user: User) -> Assignment | None:
    """The pair that this rater should judge now: one that is begun, else a new one; None when nothing is left."""
    study = _study(session, study_id)
    begun = session.scalar(_unfinished(study, user).limit(1))
    if study.closed or begun is not None or not _waiting(session, study, user):
        return None if study.closed else begun
    study = _lock(session, study_id)
    begun = session.scalar(_unfinished(study, user).limit(1))  # in another window of this rater, meanwhile
    waiting = _waiting(session, study, user)
    if study.closed or begun is not None or not waiting:
        session.rollback()
        return None if study.closed else begun
    coin = random.Random(f"{study.seed}:{waiting[0]}:{user.id}")
    given = Assignment(
        pair_id=waiting[0], user_id=user.id, after_left=coin.random() < 0.5, token=secrets.token_urlsafe(24)
    )
    session.add(given)
    session.commit()
    return given


def own_assignment(session: Session, token: str, user: User) -> Assignment | None:
    """The assignment of that name if it is this rater's."""
    wanted = select(Assignment).where(Assignment.token == token, Assignment.user_id == user.id)
    return session.scalar(wanted.options(joinedload(Assignment.pair).joinedload(StudyPair.study)))


def previous_assignment(session: Session, study_id: int, user: User, before: Assignment | None) -> Assignment | None:
    """The one that this rater was given before that one, or the last of all."""
    own = _own(study_id, user).order_by(Assignment.id.desc()).limit(1)
    return session.scalar(own.where(Assignment.id < before.id) if before else own)


def picture_on(assignment: Assignment, side: str) -> str:
    """The picture that this rater sees on a side ("left" or "right"), as its path below the project folder."""
    pair = assignment.pair
    return pair.after if (side == "left") == assignment.after_left else pair.before


def side_of(assignment: Assignment, outcome: str) -> str:
    """The side (or "same") that this rater pressed for an outcome (good, same, bad)."""
    if outcome == "same":
        return "same"
    return "left" if (outcome == "good") == assignment.after_left else "right"


def save_verdict(
    session: Session, assignment: Assignment, aspect: str, side: str, seconds: float | None = None
) -> None:
    """Commit which side is better. A second verdict on the same aspect replaces the first.

    Args:
        aspect: One of the study's aspects.
        side: left, same or right.
        seconds: From showing the pair to the verdict.

    Raises:
        InputError: the study is closed, or the aspect or the side is unknown.
    """
    study = _lock(session, assignment.pair.study_id)
    if study.closed:
        raise InputError("this study is closed; nothing can be changed any more")
    if aspect not in study.aspects:
        raise InputError(f"aspect {aspect!r}; this study asks for {', '.join(study.aspects)}")
    if side not in SIDES:
        raise InputError(f"verdict {side!r}; expected one of {', '.join(SIDES)}")
    outcome = "same" if side == "same" else "good" if (side == "left") == assignment.after_left else "bad"
    wanted = select(Verdict).where(Verdict.assignment_id == assignment.id, Verdict.aspect == aspect)
    verdict = session.scalar(wanted)
    if verdict is None:
        session.add(Verdict(assignment_id=assignment.id, aspect=aspect, outcome=outcome, seconds=seconds))
    else:
        verdict.outcome = outcome
    session.commit()


def verdicts_of(session: Session, assignment: Assignment) -> dict[str, str]:
    """Side by aspect, as this rater pressed it."""
    rows = session.scalars(select(Verdict).where(Verdict.assignment_id == assignment.id))
    return {row.aspect: side_of(assignment, row.outcome) for row in rows}


def study_progress(session: Session, study: Study, user: User) -> StudyProgress:
    """How many pairs a rater has judged on every aspect, and how many are left."""
    given = session.scalar(select(func.count()).select_from(_own(study.id, user).subquery())) or 0
    unfinished = session.scalar(select(func.count()).select_from(_unfinished(study, user).subquery())) or 0
    return StudyProgress(given - unfinished, unfinished + len(_waiting(session, study, user)))


def pair_count(session: Session, study: Study) -> int:
    return session.scalar(select(func.count(StudyPair.id)).where(StudyPair.study_id == study.id)) or 0


def verdict_count(session: Session, study: Study) -> int:
    """Verdicts so far, of all raters and aspects."""
    rows = select(func.count(Verdict.id)).join(Verdict.assignment).join(Assignment.pair)
    return session.scalar(rows.where(StudyPair.study_id == study.id)) or 0


def close_study(session: Session, study_id: int) -> None:
    """End a study: its result and the systems' names can be seen from now on, and no verdict is taken any more."""
    study = _lock(session, study_id)
    study.closed = study.closed or now()
    session.commit()


def ballots(session: Session, study: Study) -> dict[str, list[Ballot]]:
    """All verdicts by aspect."""
    columns = (StudyPair.id, StudyPair.prompt, StudyPair.tags, Assignment.user_id, Assignment.after_left)
    rows = select(Verdict.aspect, Verdict.outcome, *columns).join_from(Verdict, Assignment).join(Assignment.pair)
    found: dict[str, list[Ballot]] = {aspect: [] for aspect in study.aspects}
    for row in session.execute(rows.where(StudyPair.study_id == study.id).order_by(Verdict.id)):
        found[row.aspect].append(Ballot(row.id, row.prompt, tuple(row.tags), row.user_id, row.outcome, row.after_left))
    return found


def _study(session: Session, study_id: int) -> Study:
    study = session.get(Study, study_id, populate_existing=True)
    if study is None:
        raise InputError(f"there is no study {study_id}")
    return study


def _lock(session: Session, study_id: int) -> Study:
    """The study, which nobody else can lock until this transaction ends. Writing it, unchanged, does so in any database."""
    session.execute(update(Study).where(Study.id == study_id).values(closed=Study.closed))
    return _study(session, study_id)


def _own(study_id: int, user: User) -> Select[Assignment]:
    return select(Assignment).join(Assignment.pair).where(StudyPair.study_id == study_id, Assignment.user_id == user.id)


def _unfinished(study: Study, user: User) -> Select[Assignment]:
    """This rater's assignments without a verdict on some aspect, the oldest first."""
    given = select(func.count(Verdict.id)).where(Verdict.assignment_id == Assignment.id).scalar_subquery()
    own = _own(study.id, user).where(given < len(study.aspects)).order_by(Assignment.id)
    return own.options(selectinload(Assignment.pair))


def _waiting(session: Session, study: Study, user: User) -> list[int]:
    """Pairs with a free place that this rater has not seen: those with the fewest raters first, else in the rater's own order."""
    answered = select(Verdict.id).where(Verdict.assignment_id == Assignment.id).exists()
    taken = and_(Assignment.pair_id == StudyPair.id, or_(answered, Assignment.created > now() - HELD))
    seen = select(Assignment.pair_id).where(Assignment.user_id == user.id)
    places = func.count(Assignment.id)
    rows = (
        select(StudyPair.id, places)
        .outerjoin(Assignment, taken)
        .where(StudyPair.study_id == study.id, StudyPair.id.not_in(seen))
        .group_by(StudyPair.id)
        .having(places < study.raters_per_pair)
    )

    def order(row: tuple[int, int]) -> tuple[int, str]:
        pair, count = row
        return count, hashlib.sha256(f"{study.seed}:{user.id}:{pair}".encode()).hexdigest()

    return [pair for pair, _ in sorted(((row[0], row[1]) for row in session.execute(rows)), key=order)]
