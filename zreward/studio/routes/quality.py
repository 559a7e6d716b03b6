"""Quality control's queue: pictures with the whole panel's labels, to accept, to send back, or to use as examples or gold."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from sqlalchemy import select

from zreward.common.errors import InputError
from zreward.studio.domain.quality_decisions import (
    SeenLabel,
    accept_labels,
    annotator_names,
    seen_text,
    send_label_back,
)
from zreward.studio.domain.quality_queue import NEEDS_PREDICTIONS, ORDERS, PAGE, SPREAD, UNSURE, read_quality_queue
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Database, render_page, require
from zreward.studio.routes.returning import back_to
from zreward.studio.storage.schema import STATES, Prediction

HOME = "/quality"
router = APIRouter(prefix=HOME, dependencies=[Depends(require("quality"))])


@router.get("")
def show_queue(
    request: Request,
    session: Database,
    dimension: str | None = None,
    state: str = "submitted",
    order: str | None = None,
    page: Annotated[int, Query(ge=1)] = 1,
    user: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = "",
) -> Response:
    """A filter that the form leaves open is empty: everybody's labels."""
    annotator = int(user) if user else None
    rubric = rubric_in_force(session)
    model = session.scalar(select(Prediction.model).limit(1))
    orders = {name: text for name, text in ORDERS.items() if model or name not in NEEDS_PREDICTIONS}
    order = order or (UNSURE if model else SPREAD)
    dimension = rubric.dimension(dimension or rubric.dimension_names[0]).name
    _check(state, STATES, "state")
    _check(order, orders, "order")
    items, total = read_quality_queue(session, dimension, state, order, page, annotator)
    return render_page(
        request,
        "quality.html.j2",
        items=items,
        total=total,
        pages=max(1, -(-total // PAGE)),
        page=page,
        dimension=dimension,
        state=state,
        order=order,
        orders=orders,
        states=STATES,
        user_id=annotator,
        annotators=annotator_names(session),
        model=model,
        shown=seen_text,
        here=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
    )


@router.post("/accept")
def accept(session: Database, labels: Annotated[list[str], Form()], back: Annotated[str, Form()] = "") -> Response:
    """Accept labels that are still as they were shown."""
    done = accept_labels(session, [SeenLabel.read(label) for label in labels])
    return back_to(back, HOME, "" if done else "changed")


@router.post("/return")
def send_back(
    session: Database,
    label: Annotated[str, Form()],
    comment: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Give a label back to its annotator, with a comment that says why."""
    done = send_label_back(session, SeenLabel.read(label), comment)
    return back_to(back, HOME, "" if done else "changed")


def _check(value: str, known: Collection[str], what: str) -> None:
    if value not in known:
        raise InputError(f"{what} {value!r}; expected one of {', '.join(known)}")
