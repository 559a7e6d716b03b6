"""Quality control's queue: pictures with the whole panel's labels, to accept, to send back, or to make something of.

Every decision names the score that was on the page: a label that its annotator has changed meanwhile stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.context import Database, render, require
from zreward.studio.quality_queue import NEEDS_PREDICTIONS, ORDERS, PAGE, SPREAD, UNSURE, queue
from zreward.studio.returning import back_to
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import STATES, Label, Prediction, User

HOME = "/quality"
router = APIRouter(prefix=HOME, dependencies=[Depends(require("quality"))])

MOST_COMMENT = 1000  # letters


@dataclass(frozen=True)
class Shown:
    """A label as it stood on the page: "ID:SCORE", with no score where the annotator could not judge."""

    id: int
    score: float | None

    @classmethod
    def read(cls, text: str) -> Shown:
        number, _, score = text.partition(":")
        try:
            return cls(int(number), float(score) if score else None)
        except ValueError:
            raise InputError(f"label {text!r}: expected ID:SCORE, as the page sends it") from None


def shown(label: Label) -> str:
    return f"{label.id}:{'' if label.final is None else label.final}"


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
    rubric = read_version(newest_version(session))
    model = session.scalar(select(Prediction.model).limit(1))
    orders = {name: text for name, text in ORDERS.items() if model or name not in NEEDS_PREDICTIONS}
    order = order or (UNSURE if model else SPREAD)
    dimension = rubric.dimension(dimension or rubric.dimension_names[0]).name
    _check(state, STATES, "state")
    _check(order, orders, "order")
    items, total = queue(session, dimension, state, order, page, annotator)
    return render(
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
        annotators=_annotators(session),
        model=model,
        shown=shown,
        here=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
    )


@router.post("/accept")
def accept(session: Database, labels: Annotated[list[str], Form()], back: Annotated[str, Form()] = "") -> Response:
    """Accept labels that are still as they were shown."""
    changed = sum(_decide(session, Shown.read(label), "accepted", "") for label in labels)
    session.commit()
    return back_to(back, HOME, "" if changed == len(labels) else "changed")


@router.post("/return")
def send_back(
    session: Database,
    label: Annotated[str, Form()],
    comment: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Give a label back to its annotator, with a comment that says why."""
    comment = comment.strip()
    if not comment or len(comment) > MOST_COMMENT:
        raise InputError(
            f"a comment of {len(comment)} letters; say in 1 to {MOST_COMMENT} what the annotator should look at"
        )
    done = _decide(session, Shown.read(label), "returned", comment)
    session.commit()
    return back_to(back, HOME, "" if done else "changed")


def _decide(session: Session, seen: Shown, state: str, comment: str) -> bool:
    """False when the label has another score by now, or is none. `changed` stays: it is when its annotator last did."""
    final = func.coalesce(Label.adjusted, Label.score)
    as_shown = final.is_(None) if seen.score is None else final == seen.score
    change = (
        update(Label)
        .where(Label.id == seen.id, Label.occasion == 0, as_shown)
        .values(state=state, comment=comment, changed=Label.changed)
    )
    result = session.execute(change)
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _annotators(session: Session) -> list[tuple[int, str]]:
    """Whoever may have given labels."""
    rows = session.execute(select(User.id, User.name).where(User.role == "annotator").order_by(User.name))
    return [(row.id, row.name) for row in rows]


def _check(value: str, known: Collection[str], what: str) -> None:
    if value not in known:
        raise InputError(f"{what} {value!r}; expected one of {', '.join(known)}")
