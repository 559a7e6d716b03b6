"""The first page: where each role's work begins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from zreward.studio.routes.context import current_user
from zreward.studio.storage.schema import User

START = {"annotator": "/annotate", "quality": "/quality", "administrator": "/people"}
router = APIRouter()


@router.get("/")
def start(user: Annotated[User, Depends(current_user)]) -> Response:
    return RedirectResponse(START[user.role], 303)
