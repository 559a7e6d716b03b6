"""The studio as a FastAPI application: routers, static files, sessions, and pages for what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from zreward.common.errors import InputError
from zreward.common.version import __version__
from zreward.studio.attempts import Attempts
from zreward.studio.context import HERE, RESIZING, NotSignedIn, Studio, guard, render, templates
from zreward.studio.database import CONNECTIONS, connect, sessions, upgrade
from zreward.studio.forms import refusal
from zreward.studio.project import Project
from zreward.studio.rubric_versions import newest_version
from zreward.studio.security import COOKIE, DEVICE, DEVICE_LASTS, HEADERS, LASTS, SAFE, Signer

ROUTERS = (
    "sign_in", "home", "people", "picture_files", "annotate", "adjust", "rubrics", "quality", "annotators", "hidden_items",
    "export_page", "progress_page", "study_pages", "study_result_pages",
)  # fmt: skip
TOO_LARGE = (OverflowError, DataError)  # what SQLite, and other databases, say to a number that no row can have


def create_app(project: Project, secure_cookies: bool = False) -> FastAPI:
    """The project's studio; its database is upgraded first. `secure_cookies` where it is served over HTTPS.

    InputError for a database that holds no project.
    """
    engine = connect(project.database_url)
    upgrade(engine)
    opener = sessions(engine)
    with opener() as session:
        newest_version(session)
    signer = Signer(project.secret())
    app = FastAPI(
        title=project.name, version=__version__, dependencies=[Depends(guard)], docs_url=None, redoc_url=None,
        openapi_url=None,
    )  # fmt: skip
    app.state.studio = Studio(
        project,
        engine,
        opener,
        signer,
        templates(),
        Attempts(),
        asyncio.Semaphore(CONNECTIONS),
        asyncio.Semaphore(RESIZING),
    )
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    for name in ROUTERS:
        app.include_router(import_module(f"zreward.studio.{name}").router)
    _answer_errors(app)

    @app.middleware("http")
    async def finish(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = refusal(request)
        if refused is None:
            response = await call_next(request)
        else:
            status, detail = refused
            response = render(request, "error.html.j2", status, detail=detail, status_code=status)
        for key, value in HEADERS.items():
            response.headers.setdefault(key, value)
        if not request.url.path.startswith(("/static/", "/pictures/", "/studies/pictures/")):
            response.headers.setdefault("Cache-Control", "no-store")
        made, known = (getattr(request.state, name, None) for name in ("new_session", "known_name"))
        cookies = [(COOKIE, signer.write(made), LASTS)] if made is not None else []
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
        elif isinstance(error, TOO_LARGE):
            status, detail = 404, "There is nothing of that number."
        if _wants_json(request):
            return JSONResponse({"detail": detail}, status, headers)
        response = render(request, "error.html.j2", status, detail=detail, status_code=status)
        response.headers.update(headers or {})
        return response

    app.add_exception_handler(NotSignedIn, not_signed_in)
    for kind in (InputError, HTTPException, RequestValidationError, *TOO_LARGE):
        app.add_exception_handler(kind, refused)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")
