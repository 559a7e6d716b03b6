"""What every page needs: the project, a database session, the signed-in user, and the templates.

Roles: an administrator may do whatever quality control may; annotators have pages of their own.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from zreward.common.version import __version__
from zreward.studio.domain import browser_sessions
from zreward.studio.domain.attempts import Attempts
from zreward.studio.domain.browser_sessions import SignedSession
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.forms import check_texts
from zreward.studio.routes.returning import NOTICES
from zreward.studio.routes.security import COOKIE, Signer, check_csrf
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import User

ROOT = Path(__file__).parents[1]  # holds templates/ and static/
RESIZING, EXPORTS = 2, 2  # at once
MAY = {
    "annotator": ("annotator",),
    "quality": ("quality", "administrator"),
    "administrator": ("administrator",),
}
"""What a page asks for -> roles that have it."""


@dataclass(frozen=True)
class Studio:
    """What a running studio holds; `app.state.studio`."""

    project: Project
    engine: Engine
    sessions: sessionmaker[Session]
    signer: Signer
    pages: Environment
    attempts: Attempts
    turns: asyncio.Semaphore  # as many as the database has connections
    resizing: asyncio.Semaphore  # pictures at full size in memory at once
    exporting: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(EXPORTS))


class NotSignedIn(Exception):
    """Sent to the sign-in page, or answered 401 where a script asked."""


def templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ROOT / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["version"] = __version__
    return environment


def get_studio(request: Request) -> Studio:
    return request.app.state.studio


def get_project(request: Request) -> Project:
    return get_studio(request).project


ThisProject = Annotated[Project, Depends(get_project)]


async def get_session(request: Request) -> AsyncIterator[Session]:
    """One session a request; what is not committed is rolled back.

    A request waits here for its connection, because waiting here blocks no thread: threads that waited would be missing for the
    requests that have one. The connection is given back before the answer is sent: a client may read slowly.
    """
    studio = get_studio(request)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(studio.turns)
        session = studio.sessions()
        request.state.session, request.state.give_back = session, stack.aclose

        async def close() -> None:
            request.state.session = None
            await run_in_threadpool(session.close)

        stack.push_async_callback(close)
        yield session


Database = Annotated[Session, Depends(get_session, scope="function")]
"""The request's database session; closed when the page's function returns."""
opened = asynccontextmanager(get_session)
"""The same for pages that need it for a part of their time."""


async def give_back(request: Request) -> None:
    """Close the request's session now: what follows takes time, and no database."""
    await request.state.give_back()


async def guard(request: Request) -> None:
    """For every request: read the cookie, or begin a session without a user; refuse forms of other sites."""
    signer = get_studio(request).signer
    signed = signer.read(request.cookies.get(COOKIE))
    if signed is None:
        signed = SignedSession(0, 0, secrets.token_urlsafe(12))
        request.state.new_session = signed
    request.state.signed, request.state.user = signed, None
    await check_csrf(request, signer.csrf(signed.salt))
    await check_texts(request)


def current_user(request: Request, session: Database) -> User:
    """Who is signed in. NotSignedIn for nobody, and for a session that was ended."""
    user = browser_sessions.who(session, request.state.signed)
    if user is None:
        raise NotSignedIn
    request.state.user = user
    return user


def require(role: str) -> Callable[..., User]:
    """A dependency: the user, who has that role; 403 for others."""

    def check(user: Annotated[User, Depends(current_user)]) -> User:
        if user.role not in MAY[role]:
            raise HTTPException(403, f"This page is for the role {role}; you are signed in as {user.role}.")
        return user

    return check


Anybody = Annotated[User, Depends(current_user)]
Annotator = Annotated[User, Depends(require("annotator"))]
Quality = Annotated[User, Depends(require("quality"))]
Administrator = Annotated[User, Depends(require("administrator"))]


def render_page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """A page with what all of them show: user, CSRF token, the rubric in force, and the notice that the address names."""
    studio, user = get_studio(request), getattr(request.state, "user", None)
    signed = getattr(request.state, "signed", None)
    shared: dict[str, Any] = {
        "user": user,
        "csrf": studio.signer.csrf(signed.salt) if signed else "",
        "project_name": studio.project.name,
        "notice": NOTICES.get(request.query_params.get("notice", ""), ""),
        "path": request.url.path,
    }
    session = getattr(request.state, "session", None)
    if user is not None and session is not None and "rubric" not in values:
        shared["rubric"] = rubric_in_force(session)
    return HTMLResponse(studio.pages.get_template(name).render(shared | values), status)
