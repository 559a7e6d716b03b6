"""Signing in and out, and the page that an invitation's link leads to."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from zreward.common.errors import InputError
from zreward.studio.domain import accounts, browser_sessions
from zreward.studio.domain.browser_sessions import SignedSession
from zreward.studio.routes.context import Database, get_studio, opened, render_page
from zreward.studio.routes.returning import back_to
from zreward.studio.routes.security import COOKIE, DEVICE
from zreward.studio.storage.schema import User

router = APIRouter()


@router.get("/sign-in")
def show(request: Request, next: str = "/") -> Response:
    return render_page(request, "sign_in.html.j2", next=next, problem="", typed="")


@router.post("/sign-in")
async def sign_in(
    request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()], next: Annotated[str, Form()] = "/"
) -> Response:
    """After many failures the password is checked later; a waiting attempt holds neither a thread nor a connection."""
    studio, name = get_studio(request), name.strip()[: accounts.LONGEST_NAME]
    device = studio.signer.read_device(request.cookies.get(DEVICE), name)
    address = request.client.host if request.client else ""
    async with studio.attempts.turn(address, name, device) as attempt, opened(request) as session:
        user = await run_in_threadpool(accounts.sign_in, session, name, password)
        if user is not None:
            attempt.succeeded()
            await run_in_threadpool(_begin, request, session, user)
    if user is None:
        problem = "This name and password do not belong together."
        return render_page(request, "sign_in.html.j2", 401, next=next, problem=problem, typed=name)
    return back_to(next, "/")


@router.post("/sign-out")
def sign_out(request: Request, session: Database) -> Response:
    browser_sessions.end(session, request.state.signed.salt)
    response = back_to("/sign-in", "/sign-in")
    response.delete_cookie(COOKIE)
    return response


@router.get("/invitation/{token}")
def show_invitation(request: Request, session: Database, token: str) -> Response:
    user = _invited(session, token)
    return render_page(request, "invitation.html.j2", invited=user, token=token, problem="", least=accounts.LEAST)


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
        accounts.accept_invitation(session, user, password)
    except InputError as error:
        return render_page(
            request, "invitation.html.j2", 400, invited=user, token=token, problem=str(error), least=accounts.LEAST
        )
    _begin(request, session, user)
    return back_to("/", "/")


def _invited(session: Session, token: str) -> User:
    user = accounts.invited(session, token)
    if user is None:
        raise HTTPException(404, "This invitation is unknown, used, or over. Ask the administrator for a new link.")
    return user


def _begin(request: Request, session: Session, user: User) -> None:
    """Begin a session with a new salt, so that a stolen cookie of the one before is not valid any more."""
    browser_sessions.end(session, request.state.signed.salt)
    salt = secrets.token_urlsafe(12)
    browser_sessions.begin(session, user, salt)
    request.state.new_session = SignedSession(user.id, user.session_version, salt)
    request.state.known_name = user.name
