"""How far a campaign is: the page's numbers against plain counts, and what an annotator may not see of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from zreward.studio.domain.campaign_progress import read_progress
from zreward.studio.domain.rating_queue import read_queue
from zreward.studio.storage.schema import CandidatePicture, Example, Gold, Label, Repetition, User, now

RATERS = 2
DIMENSIONS = ("alignment", "realism")


@pytest.fixture
def campaign(session):
    """12 pictures; ann has rated 1 to 6, ben 4 to 8, cem (excluded) 1 to 12, all of alignment; gold: 1, 12; example: 9."""
    people = {name: User(name=name, role="annotator", excluded=name == "cem") for name in ("ann", "ben", "cem")}
    session.add_all([*people.values(), User(name="quinn", role="quality")])
    session.commit()
    rated = {"ann": range(1, 7), "ben": range(4, 9), "cem": range(1, 13)}
    for name, numbers in rated.items():
        for number in numbers:
            about = {"user_id": people[name].id, "dimension": "alignment", "rubric_version": "1", "score": 3.0}
            session.add(Label(**about, candidate_id=number, seconds=float(number)))
    session.add(Label(**about | {"user_id": people["ann"].id}, candidate_id=1, occasion=1))
    session.add_all(Gold(candidate_id=number, dimension="alignment", score=3.0) for number in (1, 12))
    session.add(Example(candidate_id=9, dimension="alignment", score=3.0, rubric_version="1"))
    session.add(Example(candidate_id=10, dimension="alignment", score=3.0, rubric_version="1", accepted=False))
    session.commit()
    return people


def test_labels_wanted_and_given_are_plain_counts(session, campaign):
    found = read_progress(session, DIMENSIONS, RATERS)
    wanted = given = 0
    for number in range(1, 13):
        if number == 9:
            continue
        panel = {"ann": number <= 6, "ben": 4 <= number <= 8}
        wanted, given = wanted + RATERS, given + min(RATERS, sum(panel.values()))
    assert [(one.dimension, one.wanted, one.given) for one in found.dimensions] == [
        ("alignment", wanted, given),
        ("realism", 12 * RATERS, 0),
    ]
    assert found.left == wanted - given + 24


def test_gold_is_wanted_of_everybody(session, campaign):
    before = read_progress(session, DIMENSIONS, RATERS).dimensions[0].wanted
    session.add_all(User(name=f"new {n}", role="annotator") for n in range(3))
    session.commit()
    assert read_progress(session, DIMENSIONS, RATERS).dimensions[0].wanted == before + 2 * 3


def test_what_is_left_to_a_person_is_what_the_queue_says(session, campaign):
    for person in read_progress(session, DIMENSIONS, RATERS).people:
        for name in DIMENSIONS:
            queue = read_queue(session, person.user, name, RATERS, 0.0)
            if person.user.name != "ann" or name != "alignment":
                assert (person.done[name], person.left[name]) == (queue.done, queue.left), (person.user.name, name)
    ann = next(one for one in read_progress(session, DIMENSIONS, RATERS).people if one.user.name == "ann")
    assert (
        ann.done["alignment"] == 7 and ann.left["alignment"] == read_queue(session, ann.user, "alignment", 2, 0.0).left
    )
    assert ann.seconds == 3.5  # of 1 to 6


def test_pace_and_end(session, campaign):
    labels = session.scalars(select(Label).where(Label.user_id == campaign["ann"].id, Label.occasion == 0)).all()
    for label in session.scalars(select(Label)):
        label.created = now() - timedelta(days=30)
    for number, label in enumerate(labels):
        label.created = now() - timedelta(days=3 - number / 2)
    session.commit()
    found = read_progress(session, DIMENSIONS, RATERS)
    assert found.per_day == pytest.approx(2, rel=1e-3)  # six in three days
    assert (found.ends - now()) / timedelta(days=1) == pytest.approx(found.left / 2, rel=1e-3)
    for label in labels:
        label.created = now() - timedelta(days=30)
    session.commit()
    found = read_progress(session, DIMENSIONS, RATERS)
    assert found.per_day == 0 and found.ends is None


def test_an_annotator_sees_himself_and_no_accuracy(session, signed_in):
    ann, quinn = signed_in("annotator", "ann"), signed_in("quality", "quinn")
    signed_in("annotator", "ben")
    user = session.scalars(select(User).where(User.name == "ann")).one()
    about = {"dimension": "alignment", "rubric_version": "1", "seconds": 4.0}
    session.add_all(Label(**about, user_id=user.id, candidate_id=n, score=3.0) for n in range(1, 4))
    session.add(Gold(candidate_id=1, dimension="alignment", score=3.0))
    session.add(Repetition(candidate_id=2, dimension="alignment"))
    session.commit()
    own, all_ = ann.get("/progress").text, quinn.get("/progress").text
    assert "ben" in all_ and "Gold accuracy" in all_ and "1.00" in all_ and "comes on" in all_
    assert "ben" not in own and "accuracy" not in own.lower() and "1.00" not in own and "gold" not in own.lower()
    assert (
        ">3</td>" in own
        and ">10</td>" in own
        and "<b>10</b> left" in ann.get("/annotate?dimension=alignment").text
        and "4.0" in own
    )


def test_an_empty_campaign_has_a_page(session, signed_in):
    page = signed_in("quality", "quinn").get("/progress").text
    assert "Nobody is here to rate yet." in page and "Nobody has rated in the last days" in page
    assert session.query(CandidatePicture).count() == 12
