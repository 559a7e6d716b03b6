"""Pictures of the project, resized once and kept; only for who may see them, and never from outside the folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy.orm import Session

from zreward.data.images import open_image
from zreward.errors import InputError
from zreward.files import atomic_path
from zreward.studio.context import current_user, get_project, get_session
from zreward.studio.project import Project
from zreward.studio.storage import Candidate, User

WIDTHS = (160, 320, 640, 1280)  # pixels; larger pictures are shrunk to fit, smaller ones stay
CACHE = ".cache"
router = APIRouter()


@router.get("/pictures/{number:int}")
def show(
    request: Request,
    session: Annotated[Session, Depends(get_session)],
    user: Annotated[User, Depends(current_user)],
    project: Annotated[Project, Depends(get_project)],
    number: int,
    width: int | None = None,
) -> Response:
    """A candidate. Everybody who is signed in may see them all: prompts and pictures are no secret, labels are."""
    candidate = session.get(Candidate, number)
    if candidate is None:
        raise HTTPException(404, "There is no such picture.")
    return picture_response(request, project, candidate.image, width)


def picture_response(request: Request, project: Project, relative: str, width: int | None) -> Response:
    """The picture as PNG, at most `width` wide and high (one of WIDTHS); 304 where the browser has it already."""
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
    try:
        kept = _resized(project, path, name, width)
    except InputError:
        raise HTTPException(404, "The picture's file cannot be read.") from None
    return FileResponse(kept, media_type="image/png", headers=headers)


def _resized(project: Project, path: Path, name: str, width: int) -> Path:
    kept = project.folder / CACHE / name[:2] / f"{name}.png"
    if not kept.exists():
        picture = open_image(path)
        picture.thumbnail((width, width))
        with atomic_path(kept) as temporary:
            picture.save(temporary, format="PNG")
    return kept
