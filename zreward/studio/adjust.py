"""Step 2: an annotator's candidates of one prompt that fell into the same integer bin, side by side.

Whoever can be told apart is shifted by half a point (one step of the scale), up or down; the rest is confirmed as it is. So
`adjusted` is the score after this step, and null before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from zreward.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.context import get_session, render, require
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import Candidate, Label, User, now

router = APIRouter(prefix="/adjust")

Database = Annotated[Session, Depends(get_session)]
Annotator = Annotated[User, Depends(require("annotator"))]
SHIFTS = (-1, 0, 1)  # steps of the scale


@router.get("")
def show(request: Request, session: Database, user: Annotator, dimension: str | None = None) -> Response:
    rubric = read_version(newest_version(session))
    names = rubric.dimension_names if dimension is None else (rubric.dimension(dimension).name,)
    name, waiting = names[0], []
    for name in names:
        waiting = groups(session, user, name)
        if waiting:
            break
    return render(
        request,
        "adjust.html.j2",
        rubric=rubric,
        about=rubric.dimension(name),
        group=waiting[0] if waiting else (),
        left=len(waiting),
        may=lambda label, shift: may_shift(rubric, label, shift),
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
    own = (Label.user_id == user.id, Label.dimension == dimension, Label.occasion == 0, Label.id.in_(label))
    found = {one.id: one for one in session.scalars(select(Label).where(*own).options(joinedload(Label.candidate)))}
    if len(found) != len(set(label)) or len({(one.candidate.prompt_id, whole(one)) for one in found.values()}) != 1:
        raise InputError("expected labels of your own, of one prompt and one whole point; load the page again")
    for number, steps in zip(label, shift, strict=True):
        one = found[number]
        if steps not in SHIFTS or not may_shift(rubric, one, steps):
            raise InputError(f"a shift of {steps} steps from {one.score}; expected -1, 0 or 1, within the scale")
        if one.state != "accepted":
            assert one.score is not None
            one.adjusted, one.changed = one.score + steps * rubric.scale.step, now()
    session.commit()
    return RedirectResponse(f"/adjust?dimension={dimension}", 303)


def groups(session: Session, user: User, dimension: str) -> list[list[Label]]:
    """Two or more labels of one prompt and integer bin of which one at least has not been through this step."""
    own = (Label.user_id == user.id, Label.dimension == dimension, Label.occasion == 0, Label.score.is_not(None))
    waiting = select(Candidate.prompt_id).join(Label).where(*own, Label.adjusted.is_(None), Label.state == "submitted")
    several = select(Candidate.prompt_id).join(Label).where(*own, Candidate.prompt_id.in_(waiting))
    several = several.group_by(Candidate.prompt_id).having(func.count() > 1)
    labels = select(Label).join(Candidate).where(*own, Candidate.prompt_id.in_(several))
    labels = labels.options(joinedload(Label.candidate).joinedload(Candidate.prompt))
    found: dict[tuple[int, int], list[Label]] = defaultdict(list)
    for label in session.scalars(labels.order_by(Candidate.prompt_id, Label.candidate_id)):
        if label.state != "returned":
            found[label.candidate.prompt_id, whole(label)].append(label)
    return [group for group in found.values() if len(group) > 1 and _unfinished(group)]


def whole(label: Label) -> int:
    """The integer bin of step 1's score."""
    assert label.score is not None
    return math.floor(label.score + 1e-6)


def may_shift(rubric: Rubric, label: Label, steps: int) -> bool:
    scale = rubric.scale
    assert label.score is not None
    return scale.min - 1e-6 <= label.score + steps * scale.step <= scale.max + 1e-6


def _unfinished(group: Sequence[Label]) -> bool:
    return any(label.adjusted is None and label.state == "submitted" for label in group)
