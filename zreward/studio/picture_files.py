"""Pictures of the project, resized once and kept; only for who may see them, and never from outside the folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.images import open_image
from zreward.studio.context import Anybody, Database, ThisProject, get_studio, give_back
from zreward.studio.project import Project
from zreward.studio.storage import Candidate

WIDTHS = (160, 320, 640, 1280)  # pixels; larger pictures are shrunk to fit, smaller ones stay
CACHE = ".cache"
router = APIRouter()


@router.get("/pictures/{number:int}")
async def show(
    request: Request, session: Database, user: Anybody, project: ThisProject, number: int, width: int | None = None
) -> Response:
    """A candidate. Everybody who is signed in may see them all: prompts and pictures are no secret, labels are."""
    candidate = await run_in_threadpool(session.get, Candidate, number)
    if candidate is None:
        raise HTTPException(404, "There is no such picture.")
    return await picture_response(request, project, candidate.image, width)


async def picture_response(request: Request, project: Project, relative: str, width: int | None) -> Response:
    """The picture as PNG, at most `width` wide and high (one of WIDTHS); 304 where the browser has it already.

    It holds no database turn, and waits for its own turn to be decoded: pictures may be large.
    """
    await give_back(request)
    width = width or WIDTHS[-1]
    if width not in WIDTHS:
        raise InputError(f"width {width}; expected one of {', '.join(map(str, WIDTHS))}")
    try:
        path = project.file(relative)
        state = path.stat()
    except (OSError, InputError):  # without its name: where a picture comes from is not for annotators
        raise HTTPException(404, "The picture's file is gone from the project.") from None
    name = hashlib.sha256(f"{relative} {state.st_mtime_ns} {state.st_size} {width}".encode()).hexdigest()[:32]
    headers = {"ETag": f'"{name}"', "Cache-Control": "private, max-age=86400"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kept = project.folder / CACHE / name[:2] / f"{name}.png"
    try:
        if not kept.exists():
            async with get_studio(request).resizing:
                await run_in_threadpool(_resize, path, kept, width)
    except InputError:
        raise HTTPException(404, "The picture's file cannot be read.") from None
    return FileResponse(kept, media_type="image/png", headers=headers)


def _resize(path: Path, kept: Path, width: int) -> None:
    if kept.exists():  # made while this one waited
        return
    picture = open_image(path)
    picture.thumbnail((width, width))
    with atomic_path(kept) as temporary:
        picture.save(temporary, format="PNG")
