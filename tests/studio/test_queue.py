"""Hidden repetitions: where they come, and that the counter does not give them away."""

from __future__ import annotations

import pytest

from zreward.studio.domain.rating_queue import DISTANCE, read_queue
from zreward.studio.storage.schema import CandidatePicture, Example, Label, PromptGroup, Repetition, User

DIMENSION = "alignment"


@pytest.fixture
def many(session):
    """200 pictures, of which 20 are to be repeated."""
    for number in range(50):
        candidates = [CandidatePicture(key=f"{number}-{n}-many", image="images/1-0.png") for n in range(4)]
        session.add(PromptGroup(text=f"prompt {number}", group=f"many {number}", candidates=candidates))
    session.flush()
    made = [one.id for one in session.query(CandidatePicture).filter(CandidatePicture.key.endswith("-many"))]
    session.add_all(Repetition(candidate_id=number, dimension=DIMENSION) for number in made[::10])
    session.commit()


def work(session, share: float) -> list[tuple[int, int, int]]:
    """Answer until nothing is left: (candidate, occasion, left before the answer)."""
    user = User(name="ann", role="annotator")
    session.add(user)
    session.commit()
    seen = []
    while (queue := read_queue(session, user, DIMENSION, 1, share)).task is not None:
        task = queue.task
        seen.append((task.candidate.id, task.occasion, queue.left))
        about = {"candidate_id": task.candidate.id, "dimension": DIMENSION, "occasion": task.occasion}
        session.add(Label(user_id=user.id, score=3.0, rubric_version="1", **about))
        session.commit()
    assert queue.left == 0
    return seen


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_repetitions_are_spread_and_far_from_their_first_time(session, many, share):
    seen = work(session, share)
    again = [place for place, (_, occasion, _) in enumerate(seen) if occasion]
    assert len(seen) == 212 + 20 and len(again) == 20
    first = {candidate: place for place, (candidate, occasion, _) in reversed(list(enumerate(seen))) if not occasion}
    late = [place for place in again if place - first[seen[place][0]] <= DISTANCE]
    assert late == [] or min(late) >= 212 + 20 - len(late), "near its first time only where nothing else is left"
    assert sum(place >= 212 for place in again) < 10, "most of them do not wait for the end"


def test_a_share_of_nothing_is_no_repetitions(session, many):
    seen = work(session, 0.0)
    assert [left for _, _, left in seen] == list(range(212, 0, -1)) and not any(occasion for _, occasion, _ in seen)


def test_every_answer_takes_one_off_what_is_left(session, many):
    assert [left for _, _, left in work(session, 0.05)] == list(range(232, 0, -1))


def test_an_example_is_neither_repeated_nor_counted(session, many):
    chosen = session.query(Repetition).first().candidate_id
    session.add(Example(candidate_id=chosen, dimension=DIMENSION, score=3.0, rubric_version="1"))
    session.commit()
    seen = work(session, 0.05)
    assert chosen not in {candidate for candidate, _, _ in seen} and seen[0][2] == 230
