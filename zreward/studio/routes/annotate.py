"""The rating page: one picture and its prompt, the rubric beside it, one answer."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from zreward.rubric import Rubric
from zreward.studio.domain.rating import item_token, occasion_of, own_label, read_held, save_answer
from zreward.studio.domain.rating_queue import RatingQueue, RatingTask, label_before, read_queue
from zreward.studio.domain.rubric_examples import examples_shown_to
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.routes.context import Annotator, Database, ThisProject, render_page
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, User

router = APIRouter()

AHEAD = 6  # pictures that a browser has ready, besides the one that it shows
MOST_HELD = 2 * AHEAD


@router.get("/annotate")
def show(
    request: Request,
    session: Database,
    user: Annotator,
    project: ThisProject,
    dimension: str | None = None,
    held: str = "",
) -> Response:
    """The next picture of a dimension; without one, of the first dimension that has any left.

    `held` names the pictures of the dimension that the browser has ready ("PICTURE.TOKEN", with commas between): the next
    one after those is asked for.
    """
    rubric = rubric_in_force(session)
    names = rubric.dimension_names if dimension is None else (rubric.dimension(dimension).name,)
    ahead = read_held(project, user, dimension, held, MOST_HELD) if dimension is not None else ()
    for name in names:
        more = max(0, AHEAD - len(ahead))
        queue = read_queue(session, user, name, project.raters_per_item, project.repeat_share, ahead, more)
        if queue.task is not None:
            break
    return _page(request, session, user, project, rubric, name, queue, queue.task)


@router.get("/annotate/{candidate}/{dimension}/{token}")
def show_again(
    request: Request,
    session: Database,
    user: Annotator,
    project: ThisProject,
    candidate: int,
    dimension: str,
    token: str,
) -> Response:
    """A picture that this annotator has rated, to change the answer."""
    occasion = occasion_of(project, user, candidate, dimension, token)
    found = session.get(CandidatePicture, candidate)
    if found is None:
        raise HTTPException(404, "There is no such picture.")
    queue = read_queue(session, user, dimension, project.raters_per_item, project.repeat_share)
    task = RatingTask(found, dimension, occasion)
    return _page(request, session, user, project, rubric_in_force(session), dimension, queue, task)


@router.post("/labels")
def save(
    session: Database,
    user: Annotator,
    project: ThisProject,
    candidate: Annotated[int, Form()],
    dimension: Annotated[str, Form()],
    token: Annotated[str, Form()],
    answer: Annotated[str, Form()],
    seconds: Annotated[float | None, Form()] = None,
    held: Annotated[str, Form()] = "",
) -> Response:
    """`answer` is a score on a bin, or "none" for a picture that cannot be judged."""
    occasion = occasion_of(project, user, candidate, dimension, token)
    save_answer(session, user, candidate, dimension, occasion, answer, seconds)
    address = urlencode({"dimension": dimension} | ({"held": held} if held else {}))
    return RedirectResponse(f"/annotate?{address}", 303)


def _item(project: Project, user: User, task: RatingTask) -> dict[str, Any]:
    """What a page needs of a picture to show it next without asking the server."""
    said = "" if task.returned is None else "none" if task.returned.score is None else f"{task.returned.score:g}"
    return {
        "candidate": task.candidate.id,
        "token": item_token(project, user, task.candidate.id, task.dimension, task.occasion),
        "prompt": task.candidate.prompt.text,
        "comment": task.returned.comment if task.returned else "",
        "said": said,
    }


def _page(
    request: Request,
    session: Session,
    user: User,
    project: Project,
    rubric: Rubric,
    dimension: str,
    queue: RatingQueue,
    task: RatingTask | None,
) -> Response:
    said = own_label(session, user, task.candidate.id, dimension, task.occasion) if task else None
    before = label_before(session, user, dimension, said)
    return render_page(
        request,
        "annotate.html.j2",
        rubric=rubric,
        about=rubric.dimension(dimension),
        task=task,
        token=item_token(project, user, task.candidate.id, dimension, task.occasion) if task else "",
        said=said,
        before=before,
        before_token=item_token(project, user, before.candidate_id, dimension, before.occasion) if before else "",
        examples=examples_shown_to(session, user, dimension),
        queue=queue,
        ahead=[_item(project, user, one) for one in (queue.tasks if task in queue.tasks else [])],
    )
