"""Pictures of the project as PNG files: only for those who may see them, and never from outside the folder."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from zreward.common.errors import InputError
from zreward.studio.routes.context import Anybody, Database, ThisProject, get_studio, give_back
from zreward.studio.storage.picture_cache import WIDTHS, find_shrunk
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture

router = APIRouter()


@router.get("/pictures/{number:int}")
async def show(
    request: Request, session: Database, user: Anybody, project: ThisProject, number: int, width: int | None = None
) -> Response:
    """A candidate. Everybody who is signed in may see them all: prompts and pictures are no secret, labels are."""
    candidate = await run_in_threadpool(session.get, CandidatePicture, number)
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
        shrunk = find_shrunk(project, relative, width)
    except (OSError, InputError):  # without its name: where a picture comes from is not for annotators
        raise HTTPException(404, "The picture's file is gone from the project.") from None
    headers = {"ETag": f'"{shrunk.version}"', "Cache-Control": "private, max-age=86400"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    try:
        if not shrunk.path.exists():
            async with get_studio(request).resizing:
                await run_in_threadpool(shrunk.make)
    except InputError:
        raise HTTPException(404, "The picture's file cannot be read.") from None
    return FileResponse(shrunk.path, media_type="image/png", headers=headers)
