"""The administrator's page: people and their roles, invitations, and who may sign in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.domain import accounts
from zreward.studio.routes.context import Administrator, Database, render_page
from zreward.studio.routes.returning import back_to
from zreward.studio.storage.schema import ROLES, Label, User

HOME = "/people"
router = APIRouter(prefix=HOME)


@router.get("")
def show(request: Request, session: Database, user: Administrator) -> Response:
    return _page(request, session)


@router.post("")
def invite(
    request: Request, session: Database, user: Administrator, name: Annotated[str, Form()], role: Annotated[str, Form()]
) -> Response:
    """Make a link; it is shown once, because only its hash is kept."""
    person, token = accounts.invite(session, name, role)
    return _page(request, session, person=person, link=str(request.base_url) + f"invitation/{token}")


@router.post("/{number}/active")
def set_active(session: Database, user: Administrator, number: int, active: Annotated[bool, Form()]) -> Response:
    """Let a person sign in, or no longer; all sessions end."""
    accounts.set_active(session, _other(session, user, number), active)
    return back_to(HOME, HOME, "saved")


@router.post("/{number}/role")
def set_role(session: Database, user: Administrator, number: int, role: Annotated[str, Form()]) -> Response:
    """Give a person another role; the person has to sign in again."""
    accounts.set_role(session, _other(session, user, number), role)
    return back_to(HOME, HOME, "saved")


def _other(session: Session, user: User, number: int) -> User:
    """Somebody else. Administrators cannot change themselves, so that there is always one."""
    person = session.get(User, number)
    if person is None or person.id == user.id:
        raise InputError("expected somebody else who is here")
    return person


def _page(request: Request, session: Session, person: User | None = None, link: str = "") -> Response:
    counts = dict(session.execute(select(Label.user_id, func.count()).group_by(Label.user_id)).tuples().all())
    people = session.scalars(select(User).order_by(User.role, User.name)).all()
    return render_page(
        request,
        "people.html.j2",
        people=people,
        counts=counts,
        roles=ROLES,
        person=person,
        link=link,
        days=accounts.INVITATION_LASTS.days,
    )
