"""Coming in and going out: the sign-in page, and the page behind an invitation's link."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from sqlalchemy.orm import Session

from zreward.errors import InputError
from zreward.studio import accounts
from zreward.studio.context import get_session, get_studio, render
from zreward.studio.returning import back_to
from zreward.studio.security import COOKIE, SignedSession
from zreward.studio.storage import User

router = APIRouter()

Database = Annotated[Session, Depends(get_session)]
# Sign-ins that fail within the studio's window; many people may share an address
FAILURES, FAILURES_OF_ADDRESS = 10, 50


@router.get("/sign-in")
def show(request: Request, next: str = "/") -> Response:
    return render(request, "sign_in.html.j2", next=next, problem="", typed="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    session: Database,
    name: Annotated[str, Form()],
    password: Annotated[str, Form()],
    next: Annotated[str, Form()] = "/",
) -> Response:
    attempts = get_studio(request).attempts
    by_name, by_address = f"name {name.strip().lower()}", f"address {request.client.host if request.client else ''}"
    attempts.check(by_name, FAILURES)
    attempts.check(by_address, FAILURES_OF_ADDRESS)
    user = accounts.sign_in(session, name, password)
    if user is None:
        problem = "This name and password do not belong together."
        return render(request, "sign_in.html.j2", 401, next=next, problem=problem, typed=name[:80])
    attempts.forgive(by_name)
    attempts.forgive(by_address)
    _begin(request, user)
    return back_to(next, "/")


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    response = back_to("/sign-in", "/sign-in")
    response.delete_cookie(COOKIE)
    return response


@router.get("/invitation/{token}")
def show_invitation(request: Request, session: Database, token: str) -> Response:
    user = _invited(session, token)
    return render(request, "invitation.html.j2", invited=user, token=token, problem="", least=accounts.LEAST)


@router.post("/invitation/{token}")
def accept(
    request: Request,
    session: Database,
    token: str,
    password: Annotated[str, Form()],
    again: Annotated[str, Form()],
) -> Response:
    user = _invited(session, token)
    try:
        if password != again:
            raise InputError("the two passwords differ")
        accounts.accept(session, user, password)
    except InputError as error:
        return render(
            request, "invitation.html.j2", 400, invited=user, token=token, problem=str(error), least=accounts.LEAST
        )
    _begin(request, user)
    return back_to("/", "/")


def _invited(session: Session, token: str) -> User:
    user = accounts.invited(session, token)
    if user is None:
        raise HTTPException(404, "This invitation is unknown, used, or over. Ask the administrator for a new link.")
    return user


def _begin(request: Request, user: User) -> None:
    """A new session with a salt of its own: what was known of the one before it is worth nothing."""
    request.state.new_session = SignedSession(user.id, user.session_version, secrets.token_urlsafe(12))
