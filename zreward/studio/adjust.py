"""Step 2: an annotator's candidates of one prompt that fell into the same integer bin, side by side.

Whoever can be told apart is shifted by half a point (one step of the scale), up or down; the rest is confirmed as it is. So
`adjusted` is the score after this step, and null before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session, joinedload

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.context import Annotator, Database, render
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import Candidate, Label, User, now

router = APIRouter(prefix="/adjust")

SHIFTS = (-1, 0, 1)  # steps of the scale


@router.get("")
def show(request: Request, session: Database, user: Annotator, dimension: str | None = None) -> Response:
    rubric = read_version(newest_version(session))
    names = rubric.dimension_names if dimension is None else (rubric.dimension(dimension).name,)
    for name in names:
        waiting = groups(session, user, name)
        if waiting:
            break
    wanted = select(Label).where(Label.id.in_(waiting[0] if waiting else ())).order_by(Label.candidate_id)
    group = session.scalars(wanted.options(joinedload(Label.candidate).joinedload(Candidate.prompt))).all()
    return render(
        request,
        "adjust.html.j2",
        rubric=rubric,
        about=rubric.dimension(name),
        group=group,
        left=len(waiting),
        may=lambda label, steps: may_shift(rubric, label, steps),
        shifted=lambda label: shifted(rubric, label),
    )


@router.post("")
def save(
    session: Database,
    user: Annotator,
    dimension: Annotated[str, Form()],
    label: Annotated[list[int], Form()],
    shift: Annotated[list[int], Form()],
) -> Response:
    """One shift (-1, 0 or 1 steps) for every label of the group."""
    rubric = read_version(newest_version(session))
    if len(label) != len(shift):
        raise InputError(f"{len(label)} labels and {len(shift)} shifts; expected one for each")
    own = select(Label).where(*_judged(user, dimension), Label.id.in_(label), Label.state != "returned")
    found = {one.id: one for one in session.scalars(own.options(joinedload(Label.candidate)))}
    bins = {(one.candidate.prompt_id, whole(one.score)) for one in found.values()}
    if len(found) != len(set(label)) or len(bins) != 1:
        raise InputError("expected labels of your own, of one prompt and one whole point; load the page again")
    for number, steps in zip(label, shift, strict=True):
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
    return RedirectResponse(f"/adjust?{urlencode({'dimension': dimension})}", 303)


def groups(session: Session, user: User, dimension: str) -> list[list[int]]:
    """Ids of two or more labels of one prompt and integer bin of which one at least has not been through this step."""
    own = _judged(user, dimension)
    waiting = select(Candidate.prompt_id).join(Label).where(*own, Label.adjusted.is_(None), Label.state == "submitted")
    several = select(Candidate.prompt_id).join(Label).where(*own, Candidate.prompt_id.in_(waiting))
    several = several.group_by(Candidate.prompt_id).having(func.count() > 1)
    columns = select(Candidate.prompt_id, Label.id, Label.score, Label.adjusted, Label.state).join_from(
        Label, Candidate
    )
    labels = columns.where(*own, Candidate.prompt_id.in_(several), Label.state != "returned")
    found: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in session.execute(labels.order_by(Candidate.prompt_id, Label.candidate_id)):
        found[row.prompt_id, whole(row.score)].append(row)
    return [[row.id for row in group] for group in found.values() if len(group) > 1 and _unfinished(group)]


def whole(score: float | None) -> int:
    """The integer bin of step 1's score."""
    assert score is not None
    return math.floor(score + 1e-6)


def shifted(rubric: Rubric, label: Label) -> int:
    """The steps by which a label is shifted already."""
    return (
        0
        if label.adjusted is None or label.score is None
        else round((label.adjusted - label.score) / rubric.scale.step)
    )


def may_shift(rubric: Rubric, label: Label, steps: int) -> bool:
    """Within the scale; what quality control has accepted stays where it is."""
    if label.state == "accepted":
        return steps == shifted(rubric, label)
    scale = rubric.scale
    assert label.score is not None
    return scale.min - 1e-6 <= label.score + steps * scale.step <= scale.max + 1e-6


def _judged(user: User, dimension: str) -> tuple[ColumnElement[bool], ...]:
    return Label.user_id == user.id, Label.dimension == dimension, Label.occasion == 0, Label.score.is_not(None)


def _unfinished(group: Sequence[Row]) -> bool:
    return any(row.adjusted is None and row.state == "submitted" for row in group)
