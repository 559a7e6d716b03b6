"""Quality control's pages of a comparison: close it, and only then see which system was which."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from zreward.studio.domain import studies
from zreward.studio.domain.study_results import Ballot, StudyResult, pair_outcomes, study_result
from zreward.studio.routes.context import Database, ThisProject, render_page, require
from zreward.studio.routes.picture import picture_response
from zreward.studio.storage.schema import Study, StudyPair

router = APIRouter(prefix="/studies/{number:int}", dependencies=[Depends(require("quality"))])

PAGE = 12  # pairs on a page


@router.post("/close")
def close(session: Database, number: int) -> Response:
    studies.close_study(session, number)
    return RedirectResponse(f"/studies/{number}/result", status_code=303)


@router.get("/result")
def show_result(
    request: Request, session: Database, number: int, page: Annotated[int, Query(ge=1)] = 1, aspect: str | None = None
) -> Response:
    study = _closed(session, number)
    results, cast = _results(session, study)
    aspect = aspect if aspect in study.aspects else study.aspects[0]
    count = studies.pair_count(session, study)
    pairs = select(StudyPair).where(StudyPair.study_id == number).order_by(StudyPair.id)
    return render_page(
        request,
        "study_result.html.j2",
        study=study,
        results=results,
        pairs=session.scalars(pairs.offset((page - 1) * PAGE).limit(PAGE)).all(),
        outcomes=pair_outcomes(cast[aspect]),
        votes=_votes(cast[aspect]),
        aspect=aspect,
        count=count,
        page=page,
        pages=max(1, -(-count // PAGE)),
    )


@router.get("/result.json")
def download_result(session: Database, number: int) -> Response:
    study = _closed(session, number)
    results, _ = _results(session, study)
    content: dict[str, Any] = {
        "study": study.name,
        "before": study.before,
        "after": study.after,
        "closed": f"{study.closed:%Y-%m-%dT%H:%M:%SZ}",
        "pairs": studies.pair_count(session, study),
        "raters_per_pair": study.raters_per_pair,
        "aspects": {aspect: asdict(result) if result else None for aspect, result in results.items()},
    }
    return JSONResponse(content)


@router.get("/pairs/{pair}/{system}")
async def picture(
    request: Request,
    session: Database,
    project: ThisProject,
    number: int,
    pair: int,
    system: Literal["before", "after"],
    width: int | None = None,
) -> Response:
    found = await run_in_threadpool(_pair, session, number, pair)
    return await picture_response(request, project, found.after if system == "after" else found.before, width)


def _pair(session: Session, number: int, pair: int) -> StudyPair:
    _closed(session, number)
    found = session.get(StudyPair, pair)
    if found is None or found.study_id != number:
        raise HTTPException(404, "There is no such pair.")
    return found


def _closed(session: Session, number: int) -> Study:
    study = session.get(Study, number)
    if study is None:
        raise HTTPException(404, "There is no such comparison.")
    if not study.closed:
        raise HTTPException(403, "The result, and which system is which, can be seen when the comparison is closed.")
    return study


def _results(session: Session, study: Study) -> tuple[dict[str, StudyResult | None], dict[str, list[Ballot]]]:
    cast = studies.ballots(session, study)
    return {aspect: _result(tuple(ballots)) for aspect, ballots in cast.items()}, cast


@lru_cache(64)
def _result(ballots: tuple[Ballot, ...]) -> StudyResult | None:
    """Cached, because the result of a closed study does not change."""
    return study_result(ballots)


def _votes(ballots: list[Ballot]) -> dict[int, list[str]]:
    """Pair -> its raters' verdicts."""
    votes: dict[int, list[str]] = {}
    for ballot in ballots:
        votes.setdefault(ballot.pair, []).append(ballot.outcome)
    return votes
