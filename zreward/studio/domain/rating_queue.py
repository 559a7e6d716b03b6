"""What an annotator rates next on a dimension, and how much is left.

In this order: labels that quality control sent back; now and then a picture that the annotator has rated before (to measure
consistency); else a picture that still needs raters, gold items among them, which everybody rates. Labels of
annotators whom quality control has excluded do not count: their pictures need somebody else. Examples of the rubric are not
rated any more: everybody sees their scores.

Every annotator has an own order of the pictures: a handful of prompts at a time, so that all candidates of a prompt tend to
have the same raters (step 2 compares them), and within the handful scattered, so that each is rated alone. An annotator cannot
tell which items are hidden ones: repetitions are spread over what is left, and counted in it from the beginning.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from zreward.studio.storage.schema import CandidatePicture, Example, Gold, Label, PromptGroup, Repetition, User

DISTANCE = 8  # labels on a dimension between a picture and its repetition
PACE_OVER = 50  # labels
HANDFUL = 6  # prompts whose candidates are mixed
_PRIME = 1_000_003
Held = Collection[tuple[int, int]]  # (picture, occasion)


@dataclass(frozen=True)
class RatingTask:
    """A picture to rate. `occasion` 1 is a hidden repetition; `returned` is the label that came back, if one did."""

    candidate: CandidatePicture
    dimension: str
    occasion: int = 0
    returned: Label | None = None


@dataclass(frozen=True)
class RatingQueue:
    """One annotator's work on one dimension: what comes now and then, labels given, items left, median seconds of the last."""

    tasks: Sequence[RatingTask]
    done: int
    left: int
    pace: float | None

    @property
    def task(self) -> RatingTask | None:
        return self.tasks[0] if self.tasks else None


def read_queue(
    session: Session,
    user: User,
    dimension: str,
    raters: int,
    repeat_share: float,
    held: Held = (),
    ahead: int = 0,
) -> RatingQueue:
    """The next items of an annotator. A page loaded again shows the same picture, unless others rated meanwhile.

    Args:
        raters: How many annotators rate each picture.
        repeat_share: The least share of hidden repetitions, 0 to 1; more come where they would pile up at the end. 0: none.
        held: (picture, occasion) of items that a browser shows before the one that is asked for; they count as left.
        ahead: How many items are wanted after the next one.

    Returns:
        The queue; its `task` is None when nothing is left.
    """
    done = session.scalar(select(func.count()).select_from(Label).where(*_own(user, dimension))) or 0
    returned = list(session.scalars(_returned(user, dimension)))
    fresh = session.execute(_fresh(session, user, dimension, raters)).all()
    repeated: Sequence[Row[tuple[int, int, int]]] = ()
    to_repeat: set[int] = set()
    if repeat_share > 0:
        repeated = session.execute(_repeated(user, dimension)).all()
        to_repeat = set(session.scalars(select(Repetition.candidate_id).where(Repetition.dimension == dimension)))
    waiting = _Waiting(session, user, dimension, repeat_share, done, returned, fresh, repeated)
    taken, tasks = set(held), list[RatingTask]()
    while len(tasks) <= ahead and (task := waiting.next(taken)) is not None:
        tasks.append(task)
        taken.add((task.candidate.id, task.occasion))
    left = len(fresh) + len(returned) + len(repeated) + sum(row.id in to_repeat for row in fresh)
    return RatingQueue(tasks, done, left, _pace(session, user, dimension))


@dataclass(frozen=True)
class _Waiting:
    """All that waits for an annotator on a dimension."""

    session: Session
    user: User
    dimension: str
    repeat_share: float
    done: int
    returned: Sequence[Label]
    fresh: Sequence[Row[tuple[int, int]]]
    repeated: Sequence[Row[tuple[int, int, int]]]

    def next(self, taken: Held) -> RatingTask | None:
        """What comes when those of `taken` are answered."""
        for label in self.returned:
            if (label.candidate_id, label.occasion) not in taken:
                return RatingTask(label.candidate, self.dimension, label.occasion, label)
        draw = random.Random(f"{self.user.id} {self.dimension} {self.done + len(taken)}").random()
        fresh = [row for row in self.fresh if (row.id, 0) not in taken]
        again = [row for row in self.repeated if (row.id, 1) not in taken]
        about = (self.session, self.user, self.dimension)
        distance = max(0, DISTANCE - len(taken)) if fresh else 0
        return _repetition(*about, again, len(fresh), self.repeat_share, draw, distance) or _first_time(*about, fresh)


def _first_time(
    session: Session, user: User, dimension: str, fresh: Sequence[Row[tuple[int, int]]]
) -> RatingTask | None:
    if not fresh:
        return None
    prompts = session.scalar(select(func.count()).select_from(PromptGroup)) or 1
    order = _order(user, -(-prompts // HANDFUL))
    candidate = session.get(CandidatePicture, min(fresh, key=lambda row: order(row.prompt_id, row.id)).id)
    assert candidate is not None
    return RatingTask(candidate, dimension)


def label_before(session: Session, user: User, dimension: str, shown: Label | None) -> Label | None:
    """For undo: the label before the one that is shown, or the last of all."""
    own = select(Label).where(*_own(user, dimension)).limit(1)
    if shown is not None:
        return session.scalar(own.where(Label.id < shown.id).order_by(Label.id.desc()))
    return session.scalar(own.order_by(Label.changed.desc(), Label.id.desc()))


def _own(user: User, dimension: str) -> tuple[ColumnElement[bool], ...]:
    return Label.user_id == user.id, Label.dimension == dimension


def _returned(user: User, dimension: str):
    return select(Label).where(*_own(user, dimension), Label.state == "returned").order_by(Label.changed)


def _pace(session: Session, user: User, dimension: str) -> float | None:
    last = select(Label.seconds).where(*_own(user, dimension), Label.seconds.is_not(None))
    seconds = [one for one in session.scalars(last.order_by(Label.id.desc()).limit(PACE_OVER)) if one is not None]
    return statistics.median(seconds) if seconds else None


def _fresh(session: Session, user: User, dimension: str, raters: int):
    """(prompt, picture) ids of pictures that this annotator has not rated, and that have too few raters or are gold."""
    mine, theirs = aliased(Label), aliased(Label)
    of_picture = [theirs.candidate_id == CandidatePicture.id, theirs.dimension == dimension, theirs.occasion == 0]
    if excluded := session.scalars(select(User.id).where(User.excluded)).all():
        of_picture.append(theirs.user_id.not_in(excluded))
    count = select(func.count()).select_from(theirs).where(*of_picture).scalar_subquery()
    rated = exists().where(
        mine.candidate_id == CandidatePicture.id, mine.dimension == dimension, mine.user_id == user.id
    )
    gold = exists().where(Gold.candidate_id == CandidatePicture.id, Gold.dimension == dimension)
    return select(CandidatePicture.prompt_id, CandidatePicture.id).where(
        ~rated, ~_example(user, dimension), or_(gold, count < raters)
    )


def _example(user: User, dimension: str) -> ColumnElement[bool]:
    """Whether a picture's score is shown to this annotator: an accepted example, or an own suggestion."""
    seen = or_(Example.accepted, Example.author_id == user.id)
    return exists().where(Example.candidate_id == CandidatePicture.id, Example.dimension == dimension, seen)


def _order(user: User, handfuls: int) -> Callable[[int, int], tuple[int, int]]:
    """(prompt, picture) -> where they stand in this annotator's order. Multiplying modulo a prime scatters neighbours."""
    rng = random.Random(user.id)
    by_prompt, by_picture = rng.randrange(_PRIME // 4, _PRIME), rng.randrange(_PRIME // 4, _PRIME)
    return lambda prompt, picture: (prompt * by_prompt % _PRIME * handfuls // _PRIME, picture * by_picture % _PRIME)


def _repeated(user: User, dimension: str):
    """(prompt, picture, first label) ids of what this annotator has rated once and is to rate again."""
    first, second = aliased(Label), aliased(Label)
    own = (first.user_id == user.id, first.dimension == dimension, first.occasion == 0)
    again = (second.user_id == user.id, second.dimension == dimension, second.occasion == 1)
    return (
        select(CandidatePicture.prompt_id, CandidatePicture.id, first.id.label("label"))
        .join(Repetition, Repetition.candidate_id == CandidatePicture.id)
        .join(first, first.candidate_id == CandidatePicture.id)
        .where(Repetition.dimension == dimension, *own, ~_example(user, dimension))
        .where(~exists().where(second.candidate_id == CandidatePicture.id, *again))
    )


def _repetition(
    session: Session,
    user: User,
    dimension: str,
    repeated: Sequence[Row[tuple[int, int, int]]],
    fresh: int,
    share: float,
    draw: float,
    distance: int,
) -> RatingTask | None:
    """One of `repeated`, when `draw` (0 to 1) says that it is time: so often that none pile up at the end."""
    newest = _label_ago(session, user, dimension, distance)
    far = [row for row in repeated if row.label <= newest]
    if not far or (fresh and draw >= max(share, len(far) / (len(far) + fresh))):
        return None
    order = _order(user, 1)
    candidate = session.get(CandidatePicture, min(far, key=lambda row: order(row.prompt_id, row.id)).id)
    assert candidate is not None
    return RatingTask(candidate, dimension, occasion=1)


def _label_ago(session: Session, user: User, dimension: str, labels: int) -> int:
    """The id of this annotator's label that is `labels` before the last one; 0 where there is none."""
    ids = select(Label.id).where(*_own(user, dimension)).order_by(Label.id.desc())
    return session.scalar(ids.offset(labels).limit(1)) or 0
