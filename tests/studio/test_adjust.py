"""Step 2: who is compared with whom, by how much they may move, and that nothing else moves."""

from __future__ import annotations

import re

import pytest

from tests.studio.test_annotate import DIMENSION, person
from zreward.studio.routes.adjust import groups
from zreward.studio.storage.schema import Label


def give(session, user, scores: dict[int, float | None], **about) -> dict[int, Label]:
    made = {
        n: Label(user_id=user.id, candidate_id=n, dimension=DIMENSION, score=score, rubric_version="1", **about)
        for n, score in scores.items()
    }
    session.add_all(made.values())
    session.commit()
    return made


@pytest.fixture
def ann(signed_in, session):
    """Her client; pictures 1 to 4 are of one prompt, 5 to 8 of the next."""
    client = signed_in("annotator", "ann")
    client.user = person(session, "ann")
    return client


def test_candidates_of_a_prompt_in_the_same_whole_point_are_compared(ann, session):
    give(session, ann.user, {1: 3.0, 2: 3.5, 3: 4.0, 4: None, 5: 3.0, 6: 5.0, 7: 5.0})
    found = [[session.get(Label, n).candidate_id for n in group] for group in groups(session, ann.user, DIMENSION)]
    assert found == [[1, 2], [6, 7]]


def test_shifts_are_saved_and_the_group_is_done(ann, session):
    made = give(session, ann.user, {1: 3.0, 2: 3.5, 3: 3.0})
    page = ann.get("/adjust").text
    assert re.findall(r'name="label" value="(\d+)"', page) == [str(made[n].id) for n in (1, 2, 3)]
    form = {"dimension": DIMENSION, "label": [made[n].id for n in (1, 2, 3)], "shift": [-1, 1, 0]}
    assert ann.post("/adjust", data=form).status_code == 303
    session.expire_all()
    assert [made[n].final for n in (1, 2, 3)] == [2.5, 4.0, 3.0] and made[1].score == 3.0
    assert groups(session, ann.user, DIMENSION) == []


def test_a_new_candidate_of_the_group_brings_it_back(ann, session):
    made = give(session, ann.user, {1: 3.0, 2: 3.5})
    ann.post("/adjust", data={"dimension": DIMENSION, "label": [made[1].id, made[2].id], "shift": [0, 0]})
    session.expire_all()
    give(session, ann.user, {3: 3.5})
    assert len(groups(session, ann.user, DIMENSION)[0]) == 3


@pytest.mark.parametrize(
    ("scores", "chosen", "shifts"),
    [
        ({1: 5.0, 2: 5.0}, (1, 2), (1, 0)),  # off the scale
        ({1: 3.0, 2: 3.5}, (1, 2), (2, 0)),  # a whole point
        ({1: 3.0, 2: 4.0}, (1, 2), (1, 0)),  # two bins
        ({1: 3.0, 5: 3.0}, (1, 5), (1, 0)),  # two prompts
        ({1: 3.0, 2: 3.5}, (1, 2), (1,)),
        ({1: None, 2: None}, (1, 2), (0, 0)),  # could not be judged
    ],
)
def test_other_shifts_are_refused(ann, session, scores, chosen, shifts):
    made = give(session, ann.user, scores)
    form = {"dimension": DIMENSION, "label": [made[n].id for n in chosen], "shift": list(shifts)}
    assert ann.post("/adjust", data=form).status_code == 400
    session.expire_all()
    assert all(label.adjusted is None for label in made.values())


def test_what_quality_control_accepted_stays_and_says_so(ann, session):
    made = give(session, ann.user, {1: 3.0, 2: 3.5})
    made[1].state = "accepted"
    session.commit()
    accepted, other = re.findall(r"<select.*?</select>", ann.get("/adjust").text, re.DOTALL)
    assert re.findall(r'value="(-?\d)"', accepted) == ["0"] and re.findall(r'value="(-?\d)"', other) == ["1", "0", "-1"]
    form = {"dimension": DIMENSION, "label": [made[1].id, made[2].id]}
    refused = ann.post("/adjust", data=form | {"shift": [1, 0]})
    assert refused.status_code == 400 and "quality control has accepted" in refused.text
    assert ann.post("/adjust", data=form | {"shift": [0, 1]}).status_code == 303
    session.expire_all()
    assert (made[1].adjusted, made[2].adjusted) == (None, 4.0)


def test_numbers_that_no_label_can_have_are_refused(ann, session):
    made = give(session, ann.user, {1: 3.0, 2: 3.5})
    form = {"dimension": DIMENSION, "label": [made[1].id, 10**30], "shift": [0, 0]}
    assert ann.post("/adjust", data=form).status_code == 404


def test_other_peoples_labels_do_not_move(ann, signed_in, session):
    signed_in("annotator", "ben")
    made = give(session, person(session, "ben"), {1: 3.0, 2: 3.5})
    form = {"dimension": DIMENSION, "label": [made[1].id, made[2].id], "shift": [1, 0]}
    assert ann.post("/adjust", data=form).status_code == 400
    assert groups(session, ann.user, DIMENSION) == []


def test_an_answer_that_changes_is_compared_anew(ann, session):
    made = give(session, ann.user, {1: 3.0, 2: 3.5}, adjusted=3.5)
    page = ann.get("/annotate?dimension=alignment").text
    undo = re.search(r'data-undo="(/annotate/(\d+)/\w+/(\w+))"', page)
    form = {"candidate": undo[2], "dimension": DIMENSION, "token": undo[3], "answer": "3"}
    assert ann.post("/labels", data=form | {"answer": "4.5"}).status_code == 303
    session.expire_all()
    assert made[int(undo[2])].adjusted is None and made[int(undo[2])].final == 4.5
