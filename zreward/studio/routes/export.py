"""The download of records for training; its page says before whose labels are in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import func, select
from starlette.types import Receive, Scope, Send

from zreward.common.errors import InputError
from zreward.common.temporary import temporary_folder
from zreward.studio.domain.exporting import ExportOptions, export_labels
from zreward.studio.domain.measuring import measure_raters
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Database, ThisProject, get_studio, render_page, require
from zreward.studio.storage.project import UNSENT
from zreward.studio.storage.schema import Label, User

router = APIRouter(prefix="/quality/export", dependencies=[Depends(require("quality"))])

FORMATS = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/jsonl"}


@router.get("")
def show(request: Request, session: Database, project: ThisProject) -> Response:
    measured = measure_raters(session, rubric_in_force(session))
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
    return render_page(request, "export.html.j2", rows=rows, threshold=threshold)


@router.get("/records.{suffix}")
def download(
    request: Request,
    session: Database,
    project: ThisProject,
    suffix: str,
    accepted_only: bool = False,
    everybody: bool = False,
) -> Response:
    """The records as a file; written below the project folder for as long as it is sent."""
    if suffix not in FORMATS:
        raise InputError(f"format {suffix[:40]!r}; expected one of {', '.join(FORMATS)}")
    places = get_studio(request).exporting
    if not places.acquire(blocking=False):
        raise HTTPException(
            503, "Other exports are being made or sent; try again in a minute.", headers={"Retry-After": "60"}
        )
    with ExitStack() as stack:
        stack.callback(places.release)
        path = stack.enter_context(temporary_folder(project.folder)) / f"records.{suffix}"
        # Written in the project folder, because a record names its picture from where it lies itself.
        made = project.folder / f"{UNSENT}{secrets.token_hex(8)}.{suffix}"
        export_labels(session, project, made, ExportOptions(accepted_only, everybody))
        os.replace(made, path)
        return _File(path, media_type=FORMATS[suffix], filename=path.name, end=stack.pop_all().close)


class _File(FileResponse):
    """A file that is deleted when it was sent, or when the client has gone."""

    def __init__(self, path: Path, *, end: Callable[[], None], **about: Any) -> None:
        super().__init__(path, **about)
        self.end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.end()
