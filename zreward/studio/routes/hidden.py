"""The page of hidden items: gold (the score is known) and repetitions (shown twice)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response, UploadFile
from sqlalchemy import func, select

from zreward.common.errors import InputError
from zreward.common.text_files import decode_text
from zreward.studio.domain import hidden_items
from zreward.studio.domain.audit import FEW
from zreward.studio.domain.gold_files import plan_gold
from zreward.studio.domain.quality_queue import PAGE, items
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Database, render_page, require
from zreward.studio.routes.returning import back_to
from zreward.studio.storage.schema import CandidatePicture, Gold, Repetition

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
    rubric = rubric_in_force(session)
    name = rubric.dimension(dimension or rubric.dimension_names[0]).name
    counts: dict[str, dict[str, int]] = {
        key: dict(session.execute(select(rows.dimension, func.count()).group_by(rows.dimension)).tuples().all())
        for key, rows in KINDS.items()
    }
    total = session.scalar(select(func.count(CandidatePicture.id))) or 0
    if kind == ALL:
        chosen, count = select(CandidatePicture.id).order_by(CandidatePicture.id), total
    else:
        table = KINDS[kind]
        chosen = select(table.candidate_id).where(table.dimension == name).order_by(table.candidate_id)
        count = counts[kind].get(name, 0)
    found = list(session.scalars(chosen.limit(PAGE).offset((page - 1) * PAGE)))
    return render_page(
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
    hidden_items.set_gold(session, rubric_in_force(session), candidate, dimension, None if remove else score)
    return back_to(back, HOME, "saved")


@router.post("/gold/file")
def plan(session: Database, file: UploadFile) -> Response:
    """Gold items of a table (CSV or JSON lines): all of it, or nothing."""
    name = (file.filename or "table")[-80:]
    text = decode_text(file.file.read(), name).replace("\r\n", "\n")
    plan_gold(session, rubric_in_force(session), text, name)
    return back_to("/quality/hidden", HOME, "saved")


@router.post("/repetitions")
def set_repetition(
    session: Database, candidate: Number, dimension: Name, repeated: Annotated[bool, Form()], back: Back = ""
) -> Response:
    """Show a picture a second time to everybody who rates it, or no longer."""
    hidden_items.set_repetition(session, rubric_in_force(session), candidate, dimension, repeated)
    return back_to(back, HOME, "saved")


@router.post("/repetitions/draw")
def draw_repetitions(session: Database, dimension: Name, count: Annotated[int, Form(ge=1, le=1000)]) -> Response:
    """Draw this many more repetitions of a dimension at random."""
    hidden_items.draw_repetitions(session, rubric_in_force(session), dimension, count)
    return back_to(f"/quality/hidden?kind=repetitions&dimension={dimension}", HOME, "saved")
