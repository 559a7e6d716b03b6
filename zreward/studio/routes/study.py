"""The pages on which raters judge pairs blind: two pictures of one prompt, on sides that were drawn for this rater.

All that a browser gets here is the prompt, two pictures under a random name, and what this rater has said about them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from zreward.studio.domain import studies
from zreward.studio.domain.rating import plausible_seconds
from zreward.studio.routes.context import Anybody, Database, ThisProject, render_page
from zreward.studio.routes.picture import picture_response
from zreward.studio.storage.schema import Assignment, Study, User

HOME = "/studies"
router = APIRouter(prefix=HOME)


@router.get("")
def show_studies(request: Request, session: Database, user: Anybody) -> Response:
    shown = [
        (
            study,
            studies.study_progress(session, study, user),
            studies.verdict_count(session, study),
            studies.pair_count(session, study),
        )
        for study in session.scalars(select(Study).order_by(Study.id.desc()))
    ]
    return render_page(request, "studies.html.j2", shown=shown)


@router.get("/{number:int}")
def judge(request: Request, session: Database, user: Anybody, number: int, token: str | None = None) -> Response:
    """The rater's next pair, or the one of `token`, to look at it again."""
    study = _study(session, number)
    given = _own(session, token, user) if token else studies.next_assignment(session, number, user)
    if token and given and given.pair.study_id != number:
        raise _missing()
    said = studies.verdicts_of(session, given) if given else {}
    previous = studies.previous_assignment(session, number, user, given)
    return render_page(
        request,
        "study_judge.html.j2",
        study=study,
        given=given,
        said=said,
        asked=next((aspect for aspect in study.aspects if aspect not in said), None),
        previous=previous,
        progress=studies.study_progress(session, study, user),
    )


@router.post("/verdicts")
def save(
    session: Database,
    user: Anybody,
    token: Annotated[str, Form()],
    aspect: Annotated[str, Form()],
    side: Annotated[str, Form()],
    seconds: Annotated[float | None, Form()] = None,
) -> Response:
    given = _own(session, token, user)
    studies.save_verdict(session, given, aspect, side, plausible_seconds(seconds))
    return RedirectResponse(f"{HOME}/{given.pair.study_id}", status_code=303)


@router.get("/pictures/{token}/{side}")
async def picture(
    request: Request,
    session: Database,
    user: Anybody,
    project: ThisProject,
    token: str,
    side: Literal["left", "right"],
    width: int | None = None,
) -> Response:
    given = await run_in_threadpool(_own, session, token, user)
    return await picture_response(request, project, studies.picture_on(given, side), width)


def _own(session: Session, token: str, user: User) -> Assignment:
    given = studies.own_assignment(session, token, user)
    if given is None:
        raise _missing()
    return given


def _study(session: Session, number: int) -> Study:
    study = session.get(Study, number)
    if study is None:
        raise _missing()
    return study


def _missing() -> HTTPException:
    return HTTPException(404, "There is no such comparison, or it is not yours.")
