"""Step 1: one picture and its prompt, the rubric beside it, one answer. Every answer is saved at once."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.context import Annotator, Database, ThisProject, render
from zreward.studio.project import Project
from zreward.studio.queue import Queue, RatingTask, label_before, read_queue
from zreward.studio.rubric_versions import newest_version, read_version
from zreward.studio.storage import Candidate, Example, Label, User, now

router = APIRouter()

OCCASIONS = (0, 1)
MOST_SECONDS = 3600.0
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
    rubric = read_version(newest_version(session))
    names = rubric.dimension_names if dimension is None else (rubric.dimension(dimension).name,)
    ahead = _held(project, user, dimension, held) if dimension is not None else ()
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
    """A picture that he has rated, to answer anew."""
    occasion = _occasion(project, user, candidate, dimension, token)
    found = session.get(Candidate, candidate)
    if found is None:
        raise HTTPException(404, "There is no such picture.")
    rubric = read_version(newest_version(session))
    queue = read_queue(session, user, dimension, project.raters_per_item, project.repeat_share)
    return _page(request, session, user, project, rubric, dimension, queue, RatingTask(found, dimension, occasion))


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
    """`answer` is a score on a bin, or "none" for a picture that cannot be judged. Sent twice, it is saved once."""
    occasion = _occasion(project, user, candidate, dimension, token)
    version = newest_version(session)
    score = _score(read_version(version), dimension, answer)
    measured = seconds if seconds is not None and 0 <= seconds <= MOST_SECONDS else None
    facts = {"score": score, "seconds": measured, "rubric_version": version.version}
    if not _update(session, user, candidate, dimension, occasion, facts):
        about = {"user_id": user.id, "candidate_id": candidate, "dimension": dimension, "occasion": occasion}
        session.add(Label(**about, **facts))
        try:
            session.commit()
        except IntegrityError:  # the same answer, sent twice at once
            session.rollback()
            _update(session, user, candidate, dimension, occasion, facts)
    address = urlencode({"dimension": dimension} | ({"held": held} if held else {}))
    return RedirectResponse(f"/annotate?{address}", 303)


def item_token(project: Project, user: User, candidate: int, dimension: str, occasion: int) -> str:
    """Names an item to its annotator without telling him whether it is a repetition."""
    text = f"item {user.id} {candidate} {dimension} {occasion}"
    return hmac.new(project.secret(), text.encode(), sha256).hexdigest()[:32]


def _occasion(project: Project, user: User, candidate: int, dimension: str, token: str) -> int:
    for occasion in OCCASIONS:
        if hmac.compare_digest(token.encode(), item_token(project, user, candidate, dimension, occasion).encode()):
            return occasion
    raise HTTPException(403, "This picture was not given to you; go on with the next one.")


def _held(project: Project, user: User, dimension: str, text: str) -> set[tuple[int, int]]:
    found = set()
    for part in text.split(",", MOST_HELD)[:MOST_HELD] if text else ():
        number, _, token = part.partition(".")
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise InputError(f"held {part[:40]!r}; expected PICTURE.TOKEN")
        found.add((int(number), _occasion(project, user, int(number), dimension, token)))
    return found


def _score(rubric: Rubric, dimension: str, answer: str) -> float | None:
    rubric.dimension(dimension)
    if answer == "none":
        return None
    try:
        score = float(answer)
    except ValueError:
        raise InputError(f"answer {answer!r}; expected a score or none") from None
    rubric.label(score)
    return score


def _update(session: Session, user: User, candidate: int, dimension: str, occasion: int, facts: dict) -> bool:
    """Change a label that is there; False when there is none. What quality control has accepted stays."""
    own = (Label.user_id == user.id, Label.candidate_id == candidate, Label.dimension == dimension)
    label = session.scalar(select(Label).where(*own, Label.occasion == occasion))
    if label is None:
        return False
    if label.state == "accepted" and label.score != facts["score"]:
        raise HTTPException(409, "Quality control has accepted this label; ask them to send it back.")
    if label.state != "accepted":
        adjusted = label.adjusted if label.score == facts["score"] and label.state == "submitted" else None
        for key, value in (
            facts | {"adjusted": adjusted, "state": "submitted", "comment": "", "changed": now()}
        ).items():
            setattr(label, key, value)
        session.commit()
    return True


def _item(session: Session, project: Project, user: User, task: RatingTask) -> dict[str, Any]:
    """What a page needs of a picture to show it as its next."""
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
    queue: Queue,
    task: RatingTask | None,
) -> Response:
    said = None
    if task is not None:
        own = (Label.user_id == user.id, Label.candidate_id == task.candidate.id, Label.dimension == dimension)
        said = session.scalar(select(Label).where(*own, Label.occasion == task.occasion))
    before = label_before(session, user, dimension, said)
    examples: dict[float, list[Example]] = {}
    chosen = select(Example).options(joinedload(Example.candidate)).where(Example.dimension == dimension)
    chosen = chosen.where(or_(Example.accepted, Example.author_id == user.id))
    for example in session.scalars(chosen.order_by(Example.id)):
        examples.setdefault(example.score, []).append(example)
    return render(
        request,
        "annotate.html.j2",
        rubric=rubric,
        about=rubric.dimension(dimension),
        task=task,
        token=item_token(project, user, task.candidate.id, dimension, task.occasion) if task else "",
        said=said,
        before=before,
        before_token=item_token(project, user, before.candidate_id, dimension, before.occasion) if before else "",
        examples=examples,
        queue=queue,
        ahead=[_item(session, project, user, one) for one in (queue.tasks if task in queue.tasks else [])],
    )
