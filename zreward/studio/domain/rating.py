"""Step 1: an annotator's answer for one picture and dimension. Every answer is saved at once."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.domain.refusals import AlreadyAcceptedError, NotAssignedError
from zreward.studio.domain.rubric_versions import read_version
from zreward.studio.storage.project import Project
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import Label, User, now

OCCASIONS = (0, 1)
MOST_SECONDS = 3600.0


def item_token(project: Project, user: User, candidate: int, dimension: str, occasion: int) -> str:
    """A name of an item for one annotator. It does not show whether the item is a repetition."""
    text = f"item {user.id} {candidate} {dimension} {occasion}"
    return hmac.new(project.secret(), text.encode(), sha256).hexdigest()[:32]


def occasion_of(project: Project, user: User, candidate: int, dimension: str, token: str) -> int:
    """The occasion (0, or 1 for a repetition) that a token stands for.

    Raises:
        NotAssignedError: the token is of another item, or of another annotator.
    """
    for occasion in OCCASIONS:
        if hmac.compare_digest(token.encode(), item_token(project, user, candidate, dimension, occasion).encode()):
            return occasion
    raise NotAssignedError("This picture was not given to you; go on with the next one.")


def read_held(project: Project, user: User, dimension: str, text: str, most: int) -> set[tuple[int, int]]:
    """(picture, occasion) of what a browser has ready, from "PICTURE.TOKEN" with commas between; the first `most` count.

    Raises:
        InputError: a part has another form.
        NotAssignedError: a token is not this annotator's.
    """
    found = set()
    for part in text.split(",", most)[:most] if text else ():
        number, _, token = part.partition(".")
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise InputError(f"held {part[:40]!r}; expected PICTURE.TOKEN")
        found.add((int(number), occasion_of(project, user, int(number), dimension, token)))
    return found


def plausible_seconds(seconds: float | None) -> float | None:
    """The time that a browser measured; None where it cannot be one (below 0, or above an hour)."""
    return seconds if seconds is not None and 0 <= seconds <= MOST_SECONDS else None


def save_answer(
    session: Session,
    user: User,
    candidate: int,
    dimension: str,
    occasion: int,
    answer: str,
    seconds: float | None = None,
) -> None:
    """Commit an annotator's answer. The same answer sent twice is saved once.

    Args:
        candidate: The picture's id.
        occasion: 0 for the first time, 1 for the hidden repetition.
        answer: A score on a bin of the rubric's scale, or "none" for a picture that cannot be judged.
        seconds: From showing the picture to the answer.

    Raises:
        InputError: the dimension is unknown, or the answer is no score on a bin.
        AlreadyAcceptedError: quality control has accepted another score of this annotator.
    """
    version = newest_version(session)
    score = _score(read_version(version), dimension, answer)
    facts = {"score": score, "seconds": plausible_seconds(seconds), "rubric_version": version.version}
    if _update(session, user, candidate, dimension, occasion, facts):
        return
    about = {"user_id": user.id, "candidate_id": candidate, "dimension": dimension, "occasion": occasion}
    session.add(Label(**about, **facts))
    try:
        session.commit()
    except IntegrityError:  # the same answer, sent twice at once
        session.rollback()
        _update(session, user, candidate, dimension, occasion, facts)


def own_label(session: Session, user: User, candidate: int, dimension: str, occasion: int = 0) -> Label | None:
    """What this person has answered for a picture."""
    own = (Label.user_id == user.id, Label.candidate_id == candidate, Label.dimension == dimension)
    return session.scalar(select(Label).where(*own, Label.occasion == occasion))


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


def _update(session: Session, user: User, candidate: int, dimension: str, occasion: int, facts: dict[str, Any]) -> bool:
    """Change a label that is there; False when there is none. An accepted label stays as it is."""
    label = own_label(session, user, candidate, dimension, occasion)
    if label is None:
        return False
    if label.state == "accepted" and label.score != facts["score"]:
        raise AlreadyAcceptedError("Quality control has accepted this label; ask them to send it back.")
    if label.state != "accepted":
        adjusted = label.adjusted if label.score == facts["score"] and label.state == "submitted" else None
        changes = facts | {"adjusted": adjusted, "state": "submitted", "comment": "", "changed": now()}
        for key, value in changes.items():
            setattr(label, key, value)
        session.commit()
    return True
