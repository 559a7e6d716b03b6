"""How far the campaign is. Quality control sees everybody, with the audit; annotators see themselves, without it.

Annotators who saw their accuracy change from picture to picture would learn which of them are gold.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from zreward.studio.domain.campaign_progress import read_progress
from zreward.studio.domain.measuring import measure_raters
from zreward.studio.domain.rating_queue import read_queue
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Anybody, Database, ThisProject, render_page

router = APIRouter(prefix="/progress")


@router.get("")
def show(request: Request, session: Database, user: Anybody, project: ThisProject) -> Response:
    rubric = rubric_in_force(session)
    own = user.role == "annotator"
    progress = read_progress(session, rubric.dimension_names, project.raters_per_item, user if own else None)
    if own:  # as the rating page counts: a difference would show the number of hidden repetitions
        about = (project.raters_per_item, project.repeat_share)
        left = {name: read_queue(session, user, name, *about).left for name in rubric.dimension_names}
        progress = replace(progress, people=[replace(one, left=left) for one in progress.people])
    measured = None if own else measure_raters(session, rubric)
    return render_page(
        request,
        "progress.html.j2",
        progress=progress,
        measured=measured,
        audits={} if measured is None else {rater.rater: rater for rater in measured.audit.raters},
        raters=project.raters_per_item,
        rubric=rubric,
    )
