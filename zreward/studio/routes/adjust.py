"""Step 2's page: an annotator's pictures of one prompt and integer bin, side by side."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from zreward.studio.domain.adjusting import groups, may_shift, save_shifts, steps_shifted
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Annotator, Database, render_page
from zreward.studio.storage.schema import CandidatePicture, Label

router = APIRouter(prefix="/adjust")


@router.get("")
def show(request: Request, session: Database, user: Annotator, dimension: str | None = None) -> Response:
    rubric = rubric_in_force(session)
    names = rubric.dimension_names if dimension is None else (rubric.dimension(dimension).name,)
    for name in names:
        waiting = groups(session, user, name)
        if waiting:
            break
    wanted = select(Label).where(Label.id.in_(waiting[0] if waiting else ())).order_by(Label.candidate_id)
    group = session.scalars(wanted.options(joinedload(Label.candidate).joinedload(CandidatePicture.prompt))).all()
    return render_page(
        request,
        "adjust.html.j2",
        rubric=rubric,
        about=rubric.dimension(name),
        group=group,
        left=len(waiting),
        may=lambda label, steps: may_shift(rubric, label, steps),
        shifted=lambda label: steps_shifted(rubric, label),
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
    save_shifts(session, user, rubric_in_force(session), dimension, label, shift)
    return RedirectResponse(f"/adjust?{urlencode({'dimension': dimension})}", 303)
