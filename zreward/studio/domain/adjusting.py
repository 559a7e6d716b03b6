"""Step 2: an annotator's labels of one prompt that fell into the same integer bin are compared side by side.

A picture that is better or worse than the others of its bin is shifted by one step of the scale (half a point), up or down;
the rest is confirmed as it is. So `adjusted` is the score after this step, and null before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session, joinedload

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.storage.schema import CandidatePicture, Label, User, now

SHIFTS = (-1, 0, 1)  # steps of the scale


def groups(session: Session, user: User, dimension: str) -> list[list[int]]:
    """Ids of two or more labels of one prompt and integer bin of which at least one has not been through this step."""
    own = _judged(user, dimension)
    waiting = (
        select(CandidatePicture.prompt_id).join(Label).where(*own, Label.adjusted.is_(None), Label.state == "submitted")
    )
    several = select(CandidatePicture.prompt_id).join(Label).where(*own, CandidatePicture.prompt_id.in_(waiting))
    several = several.group_by(CandidatePicture.prompt_id).having(func.count() > 1)
    columns = select(CandidatePicture.prompt_id, Label.id, Label.score, Label.adjusted, Label.state).join_from(
        Label, CandidatePicture
    )
    labels = columns.where(*own, CandidatePicture.prompt_id.in_(several), Label.state != "returned")
    found: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in session.execute(labels.order_by(CandidatePicture.prompt_id, Label.candidate_id)):
        found[row.prompt_id, whole(row.score)].append(row)
    return [[row.id for row in group] for group in found.values() if len(group) > 1 and _unfinished(group)]


def save_shifts(
    session: Session, user: User, rubric: Rubric, dimension: str, labels: Sequence[int], shifts: Sequence[int]
) -> None:
    """Commit one shift for every label of a group; accepted labels stay as they are.

    Args:
        labels: Ids of this person's labels, all of one prompt and integer bin.
        shifts: -1, 0 or 1 steps of the scale, one for each label.

    Raises:
        InputError: the lengths differ, the labels are no group of this person, or a shift is not allowed.
    """
    if len(labels) != len(shifts):
        raise InputError(f"{len(labels)} labels and {len(shifts)} shifts; expected one for each")
    own = select(Label).where(*_judged(user, dimension), Label.id.in_(labels), Label.state != "returned")
    found = {one.id: one for one in session.scalars(own.options(joinedload(Label.candidate)))}
    bins = {(one.candidate.prompt_id, whole(one.score)) for one in found.values()}
    if len(found) != len(set(labels)) or len(bins) != 1:
        raise InputError("expected labels of your own, of one prompt and one whole point; load the page again")
    for number, steps in zip(labels, shifts, strict=True):
        one = found[number]
        if steps not in SHIFTS or not may_shift(rubric, one, steps):
            raise InputError(
                f"a shift of {steps} steps from {one.score}; expected -1, 0 or 1, within the scale, and none of a label "
                "that quality control has accepted; load the page again"
            )
        if one.state != "accepted":
            assert one.score is not None
            one.adjusted, one.changed = one.score + steps * rubric.scale.step, now()
    session.commit()


def whole(score: float | None) -> int:
    """The integer bin of step 1's score."""
    assert score is not None
    return math.floor(score + 1e-6)


def steps_shifted(rubric: Rubric, label: Label) -> int:
    """The steps of the scale by which a label is shifted already."""
    if label.adjusted is None or label.score is None:
        return 0
    return round((label.adjusted - label.score) / rubric.scale.step)


def may_shift(rubric: Rubric, label: Label, steps: int) -> bool:
    """Whether the shifted score is on the scale. An accepted label may only keep its shift."""
    if label.state == "accepted":
        return steps == steps_shifted(rubric, label)
    scale = rubric.scale
    assert label.score is not None
    return scale.min - 1e-6 <= label.score + steps * scale.step <= scale.max + 1e-6


def _judged(user: User, dimension: str) -> tuple[ColumnElement[bool], ...]:
    return Label.user_id == user.id, Label.dimension == dimension, Label.occasion == 0, Label.score.is_not(None)


def _unfinished(group: Sequence[Row]) -> bool:
    return any(row.adjusted is None and row.state == "submitted" for row in group)
