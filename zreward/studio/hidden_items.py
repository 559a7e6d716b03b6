"""The hidden items that annotators are measured by: gold (the score is known) and repetitions (shown twice)."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response, UploadFile
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.common.text_files import decode_text
from zreward.studio.audit import FEW
from zreward.studio.context import Database, render, require
from zreward.studio.gold_files import plan_gold
from zreward.studio.quality_queue import PAGE, items
from zreward.studio.returning import back_to
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import Candidate, Gold, Repetition

HOME = "/quality"
router = APIRouter(prefix=HOME, dependencies=[Depends(require("quality"))])

Number = Annotated[int, Form()]
Name = Annotated[str, Form()]
Back = Annotated[str, Form()]
KINDS: dict[str, Any] = {"gold": Gold, "repetitions": Repetition}
ALL = "all"  # pictures, to make hidden items of: also before anybody has rated


@router.get("/hidden")
def show(
    request: Request,
    session: Database,
    dimension: str | None = None,
    kind: str = "gold",
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Which pictures are hidden items of a dimension; with the kind "all" every picture, to choose from."""
    if kind not in (*KINDS, ALL):
        raise InputError(f"kind {kind!r}; expected gold, repetitions or all")
    rubric = read_version(newest_version(session))
    name = rubric.dimension(dimension or rubric.dimension_names[0]).name
    counts: dict[str, dict[str, int]] = {
        key: dict(session.execute(select(rows.dimension, func.count()).group_by(rows.dimension)).tuples().all())
        for key, rows in KINDS.items()
    }
    total = session.scalar(select(func.count(Candidate.id))) or 0
    if kind == ALL:
        chosen, count = select(Candidate.id).order_by(Candidate.id), total
    else:
        table = KINDS[kind]
        chosen = select(table.candidate_id).where(table.dimension == name).order_by(table.candidate_id)
        count = counts[kind].get(name, 0)
    found = list(session.scalars(chosen.limit(PAGE).offset((page - 1) * PAGE)))
    return render(
        request,
        "hidden_items.html.j2",
        items=items(session, name, found),
        counts=counts,
        kind=kind,
        dimension=name,
        page=page,
        pages=max(1, -(-count // PAGE)),
        pictures=total,
        few=FEW,
    )


@router.post("/gold")
def set_gold(
    session: Database,
    candidate: Number,
    dimension: Name,
    score: Annotated[float, Form()],
    remove: Annotated[bool, Form()] = False,
    back: Back = "",
) -> Response:
    """Make a picture gold with this score, or gold no longer."""
    rubric = read_version(newest_version(session))
    rubric.dimension(dimension)
    _check_candidate(session, candidate)
    session.execute(delete(Gold).where(Gold.candidate_id == candidate, Gold.dimension == dimension))
    if not remove:
        score = rubric.scale.validate(score, "gold score")
        session.add(Gold(candidate_id=candidate, dimension=dimension, score=score))
    session.commit()
    return back_to(back, HOME, "saved")


@router.post("/gold/file")
def plan(session: Database, file: UploadFile) -> Response:
    """Gold items of a table (CSV or JSON lines): all of it, or nothing."""
    name = (file.filename or "table")[-80:]
    text = decode_text(file.file.read(), name).replace("\r\n", "\n")
    plan_gold(session, read_version(newest_version(session)), text, name)
    return back_to("/quality/hidden", HOME, "saved")


@router.post("/repetitions")
def set_repetition(
    session: Database, candidate: Number, dimension: Name, repeated: Annotated[bool, Form()], back: Back = ""
) -> Response:
    """Show a picture a second time to everybody who rates it, or no longer."""
    read_version(newest_version(session)).dimension(dimension)
    _check_candidate(session, candidate)
    session.execute(delete(Repetition).where(Repetition.candidate_id == candidate, Repetition.dimension == dimension))
    if repeated:
        session.add(Repetition(candidate_id=candidate, dimension=dimension))
    session.commit()
    return back_to(back, HOME, "saved")


@router.post("/repetitions/draw")
def draw_repetitions(session: Database, dimension: Name, count: Annotated[int, Form(ge=1, le=1000)]) -> Response:
    """Make so many pictures, drawn at random, repetitions of a dimension besides those that are."""
    read_version(newest_version(session)).dimension(dimension)
    taken = select(Repetition.candidate_id).where(Repetition.dimension == dimension)
    free = list(session.scalars(select(Candidate.id).where(Candidate.id.not_in(taken)).order_by(Candidate.id)))
    for candidate in secrets.SystemRandom().sample(free, min(count, len(free))):
        session.add(Repetition(candidate_id=candidate, dimension=dimension))
    session.commit()
    return back_to(f"/quality/hidden?kind=repetitions&dimension={dimension}", HOME, "saved")


def _check_candidate(session: Session, number: int) -> None:
    if session.get(Candidate, number) is None:
        raise InputError(f"there is no picture {number} in this project")
