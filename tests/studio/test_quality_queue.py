"""The queue's orders, against plain loops over the same labels."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from zreward.studio.domain.quality_queue import DISAGREEING, OLDEST, PAGE, SPREAD, UNSURE, read_quality_queue
from zreward.studio.storage.schema import (
    CandidatePicture,
    Example,
    Gold,
    Label,
    Prediction,
    PromptGroup,
    Repetition,
    StudioTable,
    User,
)

PICTURES = 30


@pytest.fixture(scope="module")
def session():
    engine = create_engine("sqlite://")
    StudioTable.metadata.create_all(engine)
    rng = random.Random(5)
    with Session(engine) as session:
        session.add_all(User(id=n, name=f"u{n}", role="annotator") for n in range(1, 5))
        session.add(PromptGroup(id=1, text="a cat", group="cat"))
        session.add_all(
            CandidatePicture(id=n, prompt_id=1, key=f"cat-{n}", image=f"{n}.png") for n in range(1, PICTURES + 1)
        )
        session.flush()
        for candidate in range(1, PICTURES + 1):
            for user in rng.sample(range(1, 5), rng.randrange(1, 5)):
                state = rng.choice(["submitted", "accepted", "returned"])
                score = rng.choice([None, *np.arange(1, 5.5, 0.5).tolist()])
                adjusted = None if score is None else rng.choice([None, score - 0.5])
                about = {"user_id": user, "candidate_id": candidate, "dimension": "alignment", "rubric_version": "1"}
                session.add(Label(**about, score=score, adjusted=adjusted, state=state))
                session.add(Label(**about, score=5.0, occasion=1))
                session.add(Label(**about | {"dimension": "realism"}, score=1.0))
            if candidate % 3:
                about = {"candidate_id": candidate, "dimension": "alignment"}
                session.add(Prediction(**about, mean=rng.uniform(1, 5), std=rng.random(), model="m"))
        session.add(Gold(candidate_id=1, dimension="alignment", score=4.0))
        session.add(Repetition(candidate_id=2, dimension="alignment"))
        session.add(Example(candidate_id=3, dimension="alignment", score=2.0, rubric_version="1"))
        session.commit()
        yield session
    engine.dispose()


def everything(session, **options):
    found, page = [], 1
    while True:
        part, total = read_quality_queue(session, "alignment", page=page, **options)
        found, page = found + part, page + 1
        if len(part) < PAGE:
            assert len(found) == total
            return found


@pytest.mark.parametrize("state", ["submitted", "accepted", "returned"])
def test_every_picture_with_a_label_in_the_state_comes_once_with_its_whole_panel(session, state):
    labels = [label for label in session.query(Label) if (label.dimension, label.occasion) == ("alignment", 0)]
    expected = sorted({label.candidate_id for label in labels if label.state == state})
    found = everything(session, state=state, order=OLDEST)
    assert [item.candidate.id for item in found] == expected
    for item in found:
        assert {label.id for label in item.labels} == {x.id for x in labels if x.candidate_id == item.candidate.id}


def test_the_widest_panel_comes_first(session):
    spreads = [item.spread for item in everything(session, order=SPREAD)]
    known = [spread for spread in spreads if spread is not None]
    assert known == pytest.approx(sorted(known, reverse=True))
    assert spreads == known + [None] * (len(spreads) - len(known))
    for item in everything(session, order=SPREAD):
        assert item.spread is None or item.spread == pytest.approx(np.std(item.scores))


def test_the_students_doubt_and_its_disagreement_come_first(session):
    doubts = [item.prediction.std if item.prediction else -1 for item in everything(session, order=UNSURE)]
    assert doubts == sorted(doubts, reverse=True)
    gaps = [
        abs(item.prediction.mean - item.mean) if item.prediction and item.mean is not None else -1
        for item in everything(session, order=DISAGREEING)
    ]
    assert gaps == pytest.approx(sorted(gaps, reverse=True))


def test_one_annotators_labels(session):
    found = everything(session, state="returned", order=OLDEST, user=2)
    expected = [
        x.candidate_id
        for x in session.query(Label)
        if (x.user_id, x.state, x.dimension) == (2, "returned", "alignment")
    ]
    assert [item.candidate.id for item in found] == sorted(expected)


def test_what_is_known_of_a_picture_comes_with_it(session):
    by_id = {
        item.candidate.id: item
        for state in ("submitted", "accepted", "returned")
        for item in everything(session, state=state)
    }
    assert by_id[1].gold == 4.0 and by_id[2].gold is None
    assert by_id[2].repeated and not by_id[1].repeated
    assert by_id[3].example.score == 2.0
