"""The page that hands out records for training, and says beforehand whose labels are in them."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from zreward.errors import InputError
from zreward.studio.context import get_project, get_session, render, require
from zreward.studio.export import ExportOptions, export
from zreward.studio.measuring import measure
from zreward.studio.project import Project
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import Label, User

router = APIRouter(prefix="/quality/export", dependencies=[Depends(require("quality"))])

Database = Annotated[Session, Depends(get_session)]
ThisProject = Annotated[Project, Depends(get_project)]
FORMATS = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/jsonl"}


@router.get("")
def show(request: Request, session: Database, project: ThisProject) -> Response:
    measured = measure(session, read_version(newest_version(session)))
    users = {user.id: user for user in session.scalars(select(User))}
    counts = select(Label.user_id, Label.state, func.count()).where(Label.occasion == 0)
    states = {
        (user, state): count for user, state, count in session.execute(counts.group_by(Label.user_id, Label.state))
    }
    threshold = project.accuracy_threshold
    rows = [
        (
            users[rater.rater],
            {state: states.get((rater.rater, state), 0) for state in ("submitted", "accepted", "returned")},
            "was excluded by quality control" if users[rater.rater].excluded else rater.reason(threshold),
            rater.passes(threshold) and not users[rater.rater].excluded,
        )
        for rater in measured.audit.raters
    ]
    return render(request, "export.html.j2", rows=rows, threshold=threshold)


@router.get("/records.{suffix}")
def download(
    session: Database, project: ThisProject, suffix: str, accepted_only: bool = False, everybody: bool = False
) -> Response:
    """The records as a file; written below the project folder for as long as it is sent."""
    if suffix not in FORMATS:
        raise InputError(f"format {suffix!r}; expected one of {', '.join(FORMATS)}")
    path = project.folder / f".export-{secrets.token_hex(8)}.{suffix}"
    export(session, project, path, ExportOptions(accepted_only, everybody))
    return FileResponse(
        path, media_type=FORMATS[suffix], filename=f"records.{suffix}", background=BackgroundTask(path.unlink, True)
    )
