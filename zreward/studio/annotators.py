"""The annotators' table: what the audit says of each, and whose labels are left out by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy import select

from zreward.common.errors import InputError
from zreward.studio.audit import FEW
from zreward.studio.context import Database, ThisProject, render, require
from zreward.studio.measuring import measure
from zreward.studio.returning import back_to
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import User

HOME = "/quality/annotators"
router = APIRouter(prefix=HOME, dependencies=[Depends(require("quality"))])


@router.get("")
def show(request: Request, session: Database, project: ThisProject) -> Response:
    rubric = read_version(newest_version(session))
    measured = measure(session, rubric)
    users = {user.id: user for user in session.scalars(select(User))}
    rows = [(users[rater.rater], rater) for rater in measured.audit.raters]
    rows.sort(key=lambda row: (row[1].accuracy is None, -(row[1].accuracy or 0), row[0].name))
    return render(
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
    user = session.get(User, number)
    if user is None or user.role != "annotator":
        raise InputError(f"there is no annotator {number}")
    user.excluded = excluded
    session.commit()
    return back_to(HOME, HOME, "saved")
