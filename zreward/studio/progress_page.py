"""How far the campaign is. Quality control sees everybody, with the audit; annotators see themselves, without it.

Somebody who saw his own accuracy change from picture to picture would learn which of them are gold.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from zreward.studio.context import Anybody, Database, ThisProject, render
from zreward.studio.measuring import measure
from zreward.studio.progress import read_progress
from zreward.studio.rubric_versions import newest_version, read_version

router = APIRouter(prefix="/progress")


@router.get("")
def show(request: Request, session: Database, user: Anybody, project: ThisProject) -> Response:
    rubric = read_version(newest_version(session))
    own = user.role == "annotator"
    progress = read_progress(session, rubric.dimension_names, project.raters_per_item, user if own else None)
    measured = None if own else measure(session, rubric)
    return render(
        request,
        "progress.html.j2",
        progress=progress,
        measured=measured,
        audits={} if measured is None else {rater.rater: rater for rater in measured.audit.raters},
        raters=project.raters_per_item,
        rubric=rubric,
    )
