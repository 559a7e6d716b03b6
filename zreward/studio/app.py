"""The studio as a FastAPI application: routers, static files, cookies, and answers to errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from zreward.common.errors import InputError
from zreward.common.version import __version__
from zreward.studio.domain.attempts import Attempts
from zreward.studio.domain.browser_sessions import SESSION_LASTS
from zreward.studio.domain.refusals import AlreadyAcceptedError, NotAssignedError, TooManyAttemptsError
from zreward.studio.routes import (
    adjust,
    annotate,
    annotators,
    export,
    hidden,
    home,
    people,
    picture,
    progress,
    quality,
    rubrics,
    sign_in,
    study,
    study_result,
)
from zreward.studio.routes.context import RESIZING, ROOT, NotSignedIn, Studio, guard, render_page, templates
from zreward.studio.routes.forms import refusal
from zreward.studio.routes.security import COOKIE, DEVICE, DEVICE_LASTS, HEADERS, SAFE, Signer
from zreward.studio.storage.database import CONNECTIONS, sessions
from zreward.studio.storage.opening import open_database
from zreward.studio.storage.project import Project

PAGES = (
    sign_in, home, people, picture, annotate, adjust, rubrics, quality, annotators, hidden, export, progress, study, study_result,
)  # fmt: skip
TOO_LARGE = (OverflowError, DataError)  # raised by SQLite, and by other databases, for a number that no row can have


def create_app(project: Project, secure_cookies: bool = False) -> FastAPI:
    """The project's studio; its database is upgraded first.

    Args:
        secure_cookies: Set where the studio is served over HTTPS: browsers then send cookies over nothing else.

    Raises:
        InputError: the database cannot be opened, or holds no project.
    """
    engine = open_database(project.database_url)
    signer = Signer(project.secret())
    app = FastAPI(
        title=project.name, version=__version__, dependencies=[Depends(guard)], docs_url=None, redoc_url=None,
        openapi_url=None,
    )  # fmt: skip
    app.state.studio = Studio(
        project,
        engine,
        sessions(engine),
        signer,
        templates(),
        Attempts(),
        asyncio.Semaphore(CONNECTIONS),
        asyncio.Semaphore(RESIZING),
    )
    app.mount("/static", StaticFiles(directory=ROOT / "static"))
    for page in PAGES:
        app.include_router(page.router)
    _answer_errors(app)

    @app.middleware("http")
    async def finish(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = refusal(request)
        if refused is None:
            response = await call_next(request)
        else:
            status, detail = refused
            response = render_page(request, "error.html.j2", status, detail=detail, status_code=status)
        for key, value in HEADERS.items():
            response.headers.setdefault(key, value)
        if not request.url.path.startswith(("/static/", "/pictures/", "/studies/pictures/")):
            response.headers.setdefault("Cache-Control", "no-store")
        made, known = (getattr(request.state, name, None) for name in ("new_session", "known_name"))
        cookies = [(COOKIE, signer.write(made), SESSION_LASTS)] if made is not None else []
        cookies += [(DEVICE, signer.write_device(known), DEVICE_LASTS)] if known is not None else []
        for key, value, lasts in cookies:
            response.set_cookie(key, value, max_age=lasts, httponly=True, samesite="lax", secure=secure_cookies)
        return response

    return app


def _answer_errors(app: FastAPI) -> None:
    async def not_signed_in(request: Request, _: Exception) -> Response:
        if request.method not in SAFE or _wants_json(request):
            return JSONResponse({"detail": "sign in first"}, 401)
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)

    async def refused(request: Request, error: Exception) -> Response:
        status, headers = 400, None
        detail = str(error)
        if isinstance(error, HTTPException):
            status, detail, headers = error.status_code, str(error.detail), error.headers
        elif isinstance(error, RequestValidationError):
            status, detail = 422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        elif isinstance(error, TooManyAttemptsError):
            status, headers = 429, {"Retry-After": str(error.seconds)}
        elif isinstance(error, AlreadyAcceptedError | NotAssignedError):
            status = 409 if isinstance(error, AlreadyAcceptedError) else 403
        elif isinstance(error, TOO_LARGE):
            status, detail = 404, "There is nothing of that number."
        if _wants_json(request):
            return JSONResponse({"detail": detail}, status, headers)
        response = render_page(request, "error.html.j2", status, detail=detail, status_code=status)
        response.headers.update(headers or {})
        return response

    app.add_exception_handler(NotSignedIn, not_signed_in)
    refusals = (InputError, AlreadyAcceptedError, NotAssignedError, TooManyAttemptsError)
    for kind in (*refusals, HTTPException, RequestValidationError, *TOO_LARGE):
        app.add_exception_handler(kind, refused)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")
