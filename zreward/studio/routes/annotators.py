"""The annotators' table: what the audit says of each, and whose labels are left out by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy import select

from zreward.studio.domain.audit import FEW
from zreward.studio.domain.measuring import measure_raters
from zreward.studio.domain.quality_decisions import exclude_annotator
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Database, ThisProject, render_page, require
from zreward.studio.routes.returning import back_to
from zreward.studio.storage.schema import User

HOME = "/quality/annotators"
router = APIRouter(prefix=HOME, dependencies=[Depends(require("quality"))])


@router.get("")
def show(request: Request, session: Database, project: ThisProject) -> Response:
    rubric = rubric_in_force(session)
    measured = measure_raters(session, rubric)
    users = {user.id: user for user in session.scalars(select(User))}
    rows = [(users[rater.rater], rater) for rater in measured.audit.raters]
    rows.sort(key=lambda row: (row[1].accuracy is None, -(row[1].accuracy or 0), row[0].name))
    return render_page(
        request,
        "annotators.html.j2",
        rows=rows,
        threshold=project.accuracy_threshold,
        few=FEW,
        measured=measured,
        step=rubric.scale.step,
    )


@router.post("/{number}/exclude")
def exclude(session: Database, number: int, excluded: Annotated[bool, Form()]) -> Response:
    """Leave somebody's labels out of exports, or take them in again; the audit's threshold counts besides."""
    exclude_annotator(session, number, excluded)
    return back_to(HOME, HOME, "saved")
