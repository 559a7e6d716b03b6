"""Quality control's decisions about labels: accepted, or sent back to the annotator with a comment.

Every decision names the score that was on the page: a label that its annotator has changed meanwhile stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.storage.schema import Label, User

MOST_COMMENT = 1000  # letters


@dataclass(frozen=True)
class SeenLabel:
    """A label as it stood on the page. `score` is None where the annotator could not judge."""

    id: int
    score: float | None

    @classmethod
    def read(cls, text: str) -> SeenLabel:
        """From "ID:SCORE", as the page sends it. InputError for any other form."""
        number, _, score = text.partition(":")
        try:
            return cls(int(number), float(score) if score else None)
        except ValueError:
            raise InputError(f"label {text!r}: expected ID:SCORE, as the page sends it") from None


def seen_text(label: Label) -> str:
    """ "ID:SCORE" of a label, which `SeenLabel.read` reads."""
    return f"{label.id}:{'' if label.final is None else label.final}"


def accept_labels(session: Session, labels: Sequence[SeenLabel]) -> bool:
    """Commit that labels are accepted; False when one of them had changed and was left alone."""
    changed = sum(_decide(session, label, "accepted", "") for label in labels)
    session.commit()
    return changed == len(labels)


def send_label_back(session: Session, label: SeenLabel, comment: str) -> bool:
    """Commit that a label goes back to its annotator; False when it had changed and was left alone.

    Raises:
        InputError: the comment is empty or too long.
    """
    comment = comment.strip()
    if not comment or len(comment) > MOST_COMMENT:
        raise InputError(
            f"a comment of {len(comment)} letters; say in 1 to {MOST_COMMENT} what the annotator should look at"
        )
    done = _decide(session, label, "returned", comment)
    session.commit()
    return done


def exclude_annotator(session: Session, number: int, excluded: bool) -> None:
    """Commit that somebody's labels are left out of exports, or taken in again. InputError when there is no such annotator."""
    user = session.get(User, number)
    if user is None or user.role != "annotator":
        raise InputError(f"there is no annotator {number}")
    user.excluded = excluded
    session.commit()


def annotator_names(session: Session) -> list[tuple[int, str]]:
    """(id, name) of everybody who may have given labels, by name."""
    rows = session.execute(select(User.id, User.name).where(User.role == "annotator").order_by(User.name))
    return [(row.id, row.name) for row in rows]


def _decide(session: Session, seen: SeenLabel, state: str, comment: str) -> bool:
    """False when the label's score has changed, or there is no such label. `changed` stays: it is when its annotator last did."""
    final = func.coalesce(Label.adjusted, Label.score)
    as_shown = final.is_(None) if seen.score is None else final == seen.score
    change = (
        update(Label)
        .where(Label.id == seen.id, Label.occasion == 0, as_shown)
        .values(state=state, comment=comment, changed=Label.changed)
    )
    result = session.execute(change)
    assert isinstance(result, CursorResult)
    return result.rowcount == 1
