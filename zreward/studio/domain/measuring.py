"""The audit of the labels in the database, kept in memory until they change."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zreward.rubric import Rubric
from zreward.studio.domain.audit import Answers, Audit, audit_raters
from zreward.studio.storage.schema import Gold, Label, now

REST = 20  # a measurement is kept for at least this many times what it cost


@dataclass(frozen=True)
class Measurement:
    """`dimensions` are the names behind the audit's dimension codes."""

    audit: Audit
    dimensions: tuple[str, ...]
    at: datetime
    state: tuple[Any, ...] = field(repr=False)
    ends: float = field(repr=False)

    def agreement(self, dimension: str) -> float | None:
        return self.audit.agreement.get(self.dimensions.index(dimension)) if dimension in self.dimensions else None


_kept: WeakKeyDictionary[Any, Measurement] = WeakKeyDictionary()
_lock = Lock()


def measure_raters(session: Session, rubric: Rubric, fresh: bool = False) -> Measurement:
    """The audit of all labels.

    A page must not wait for an audit of hundreds of thousands of labels each time it is shown: while people rate, a
    measurement that took a second is kept for 20 seconds. One that took milliseconds is always new.

    Args:
        rubric: The rubric in force; labels on other dimensions are left out.
        fresh: Measure again whenever a label has changed, however long it takes.
    """
    engine = session.get_bind()
    state = _state(session, rubric)
    with _lock:
        kept = _kept.get(engine)
        if kept is not None and (kept.state == state or (not fresh and time.monotonic() < kept.ends)):
            return kept
        begin = time.monotonic()
        found = audit_raters(read_answers(session, rubric), rubric.scale)
        took = time.monotonic() - begin
        ends = begin + REST * took if took > 0.05 else begin
        _kept[engine] = measurement = Measurement(found, rubric.dimension_names, now(), state, ends)
        return measurement


def read_answers(session: Session, rubric: Rubric) -> Answers:
    """All labels on the rubric's dimensions, as columns."""
    codes = {name: code for code, name in enumerate(rubric.dimension_names)}
    final = func.coalesce(Label.adjusted, Label.score)
    columns = (Label.user_id, Label.candidate_id, Label.dimension, Label.occasion, Label.score, final)
    rows = session.execute(select(*columns).where(Label.dimension.in_(codes))).all()
    user, candidate, dimension, occasion, first, counting = zip(*rows, strict=True) if rows else ((),) * 6
    code = np.array([codes[name] for name in dimension], np.int64)
    unit = np.array(candidate, np.int64) * len(codes) + code
    known = {row.candidate_id * len(codes) + codes[row.dimension]: row.score for row in _gold(session, rubric)}
    return Answers(
        rater=np.array(user, np.int64),
        unit=unit,
        dimension=code,
        occasion=np.array(occasion, np.int64),
        first=np.array(first, np.float64),  # None becomes NaN
        final=np.array(counting, np.float64),
        gold=np.array([known.get(key, np.nan) for key in unit.tolist()], np.float64),
    )


def _gold(session: Session, rubric: Rubric) -> Any:
    known = select(Gold.candidate_id, Gold.dimension, Gold.score).where(Gold.dimension.in_(rubric.dimension_names))
    return session.execute(known)


def _state(session: Session, rubric: Rubric) -> tuple[Any, ...]:
    """Differs whenever a measurement would."""
    labels = session.execute(select(func.count(Label.id), func.max(Label.changed))).one()
    gold = session.execute(select(func.count(Gold.id), func.max(Gold.id), func.sum(Gold.score))).one()
    return (*labels, *gold, rubric.fingerprint())
