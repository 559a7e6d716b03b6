"""What quality control looks at next: pictures with labels that wait, each with its whole panel.

Every order is one query over an index that holds all it needs (`labels_by_panel`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, case, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from zreward.studio.storage.schema import CandidatePicture, Example, Gold, Label, Prediction, Repetition

PAGE = 12  # pictures

SPREAD, OLDEST, UNSURE, DISAGREEING = "spread", "oldest", "uncertainty", "disagreement"
ORDERS = {
    SPREAD: "the panel's spread",
    OLDEST: "the order of the pictures",
    UNSURE: "the student's uncertainty",
    DISAGREEING: "the student's disagreement with the panel",
}
NEEDS_PREDICTIONS = (UNSURE, DISAGREEING)


@dataclass(frozen=True)
class QualityItem:
    """One picture on one dimension."""

    candidate: CandidatePicture
    labels: Sequence[Label]  # first answers, in the order of the annotators
    prediction: Prediction | None
    gold: float | None
    repeated: bool
    example: Example | None

    @property
    def scores(self) -> list[float]:
        return [label.final for label in self.labels if label.final is not None]

    @property
    def mean(self) -> float | None:
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the panel."""
        mean = self.mean
        if mean is None:
            return None
        return (sum((score - mean) ** 2 for score in self.scores) / len(self.scores)) ** 0.5

    @property
    def waiting(self) -> list[Label]:
        return [label for label in self.labels if label.state == "submitted"]


def read_quality_queue(
    session: Session,
    dimension: str,
    state: str = "submitted",
    order: str = SPREAD,
    page: int = 1,
    user: int | None = None,
) -> tuple[list[QualityItem], int]:
    """One page of the pictures that have a label in `state`.

    Args:
        state: One of `STATES`.
        order: One of `ORDERS`.
        page: From 1; a page has `PAGE` pictures.
        user: Only labels of this person.

    Returns:
        The page's items, and how many pictures there are on all pages.
    """
    found = _panels(dimension, state, user).subquery()
    total = session.scalar(select(func.count()).select_from(found)) or 0
    ordered = select(found.c.candidate_id)
    if order in NEEDS_PREDICTIONS:
        predicted = and_(Prediction.candidate_id == found.c.candidate_id, Prediction.dimension == dimension)
        ordered = ordered.outerjoin(Prediction, predicted)
        value: Any = Prediction.std if order == UNSURE else func.abs(Prediction.mean - found.c.mean)
        ordered = ordered.order_by(func.coalesce(value, -1).desc())
    elif order == SPREAD:
        ordered = ordered.order_by(func.coalesce(found.c.square - found.c.mean * found.c.mean, -1).desc())
    ordered = ordered.order_by(found.c.candidate_id).limit(PAGE).offset((page - 1) * PAGE)
    return items(session, dimension, list(session.scalars(ordered))), total


def items(session: Session, dimension: str, candidates: Sequence[int]) -> list[QualityItem]:
    """These pictures (ids) with their labels and hidden items, in this order."""
    pictures = (
        select(CandidatePicture).options(joinedload(CandidatePicture.prompt)).where(CandidatePicture.id.in_(candidates))
    )
    by_id = {candidate.id: candidate for candidate in session.scalars(pictures)}
    panels: dict[int, list[Label]] = defaultdict(list)
    labels = select(Label).options(joinedload(Label.user)).where(Label.candidate_id.in_(candidates))
    for label in session.scalars(
        labels.where(Label.dimension == dimension, Label.occasion == 0).order_by(Label.user_id)
    ):
        panels[label.candidate_id].append(label)
    predictions, gold, repetitions, examples = (
        _by_candidate(session, table, dimension, candidates) for table in (Prediction, Gold, Repetition, Example)
    )
    return [
        QualityItem(
            candidate=by_id[number],
            labels=panels[number],
            prediction=predictions.get(number),
            gold=gold[number].score if number in gold else None,
            repeated=number in repetitions,
            example=examples.get(number),
        )
        for number in candidates
        if number in by_id
    ]


def _by_candidate(session: Session, table: Any, dimension: str, candidates: Sequence[int]) -> dict[int, Any]:
    found = select(table).where(table.candidate_id.in_(candidates), table.dimension == dimension)
    return {row.candidate_id: row for row in session.scalars(found)}


def _panels(dimension: str, state: str, user: int | None) -> Select[Any]:
    """Per picture the mean of its scores and of their squares, where a label of it (of `user`) is in `state`."""
    final = func.coalesce(Label.adjusted, Label.score)
    panels = select(Label.candidate_id, func.avg(final).label("mean"), func.avg(final * final).label("square"))
    panels = panels.where(Label.dimension == dimension, Label.occasion == 0).group_by(Label.candidate_id)
    if user is None:
        return panels.having(func.sum(case((Label.state == state, 1), else_=0)) > 0)
    own = aliased(Label)
    mine = select(own.candidate_id).where(own.user_id == user, own.dimension == dimension, own.occasion == 0)
    return panels.where(Label.candidate_id.in_(mine.where(own.state == state)))
