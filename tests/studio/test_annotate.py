"""Rating: what comes next, what is saved, and what an annotator can neither see nor do."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from zreward.studio.domain import rubric_examples
from zreward.studio.domain.rating_queue import DISTANCE, read_queue
from zreward.studio.storage.schema import CandidatePicture, Example, Gold, Label, Repetition, User

DIMENSION = "alignment"


def person(session, name: str) -> User:
    return session.scalars(select(User).where(User.name == name)).one()


def rate(client, answer: str = "3.5", dimension: str = DIMENSION, **changed):
    """Answer what the page shows; returns (answer of the server, form that was sent)."""
    page = client.get(f"/annotate?dimension={dimension}").text
    rating = page.split('id="rating"')[1].split("</form>")[0]
    found = dict(re.findall(r'name="(candidate|dimension|token)" value="([^"]*)"', rating))
    form = found | {"answer": answer, "seconds": "2.5"} | changed
    return client.post("/labels", data=form), form


def rate_all(client, answers=("3.5",), dimension: str = DIMENSION) -> list[dict]:
    sent = []
    while 'id="rating"' in client.get(f"/annotate?dimension={dimension}").text:
        answer, form = rate(client, answers[len(sent) % len(answers)], dimension)
        assert answer.status_code == 303, answer.text
        sent.append(form)
    return sent


def test_every_picture_gets_as_many_raters_as_the_project_asks_for(signed_in, session):
    for name in ("ann", "ben", "cem"):
        rate_all(signed_in("annotator", name))
    labels = session.scalars(select(Label)).all()
    by_picture = [sum(label.candidate_id == n for label in labels) for n in range(1, 13)]
    assert by_picture == [2] * 12
    assert all((label.score, label.seconds, label.rubric_version) == (3.5, 2.5, "1") for label in labels)


def test_gold_is_rated_by_everybody(signed_in, session):
    session.add(Gold(candidate_id=5, dimension=DIMENSION, score=4.0))
    session.commit()
    for name in ("ann", "ben", "cem", "dua"):
        rate_all(signed_in("annotator", name))
    assert len(session.scalars(select(Label).where(Label.candidate_id == 5)).all()) == 4


def test_the_page_shows_the_same_picture_until_it_is_answered(signed_in):
    client = signed_in("annotator", "ann")
    pages = {re.search(r'name="candidate" value="(\d+)"', client.get("/annotate").text)[1] for _ in range(4)}
    assert len(pages) == 1


def test_annotators_have_orders_of_their_own(signed_in):
    orders = [[form["candidate"] for form in rate_all(signed_in("annotator", name))] for name in ("ann", "ben")]
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]


def test_an_answer_that_is_sent_twice_is_saved_once(signed_in, session):
    client = signed_in("annotator", "ann")
    _, form = rate(client, "3.5")
    assert client.post("/labels", data=form).status_code == 303
    assert [label.score for label in session.scalars(select(Label))] == [3.5]


def test_undo_shows_the_last_picture_and_its_answer_can_change(signed_in, session):
    client = signed_in("annotator", "ann")
    _, form = rate(client, "3.5")
    again = re.search(r'data-undo="([^"]+)"', client.get("/annotate?dimension=alignment").text)[1]
    assert re.search(r'value="3.5"[^>]*aria-pressed="true"', client.get(again).text)
    client.post("/labels", data=form | {"answer": "none"})
    assert [label.score for label in session.scalars(select(Label))] == [None]


def test_what_quality_control_accepted_stays(signed_in, session):
    client = signed_in("annotator", "ann")
    _, form = rate(client, "3.5")
    session.scalars(select(Label)).one().state = "accepted"
    session.commit()
    assert client.post("/labels", data=form | {"answer": "1"}).status_code == 409
    assert client.post("/labels", data=form).status_code == 303
    session.expire_all()
    assert session.scalars(select(Label)).one().score == 3.5


def test_returned_labels_come_first_with_the_reason(signed_in, session):
    client = signed_in("annotator", "ann")
    _, form = rate(client, "3.5")
    rate(client, "2")
    label = session.scalars(select(Label).where(Label.candidate_id == int(form["candidate"]))).one()
    label.state, label.comment = "returned", "look at the <shadow>"
    session.commit()
    page = client.get("/annotate?dimension=alignment").text
    assert "look at the &lt;shadow&gt;" in page and f'name="candidate" value="{form["candidate"]}"' in page
    rate(client, "1.5")
    session.expire_all()
    assert (label.state, label.score, label.comment) == ("submitted", 1.5, "")


def test_repetitions_come_again_far_enough_away_and_look_like_any_other(signed_in, session):
    session.add_all(Repetition(candidate_id=n, dimension=DIMENSION) for n in range(1, 13))
    session.commit()
    client = signed_in("annotator", "ann")
    forms = rate_all(client, ["2", "3", "4"])
    seen = [form["candidate"] for form in forms]
    labels = session.scalars(select(Label).order_by(Label.id)).all()
    assert len(seen) == 24 and [label.occasion for label in labels].count(1) == 12
    first_again = next(n for n, label in enumerate(labels) if label.occasion == 1)
    assert seen.index(seen[first_again]) <= first_again - DISTANCE or first_again >= 12
    assert all(set(form) == {"candidate", "dimension", "token", "answer", "seconds"} for form in forms)
    assert len({form["token"] for form in forms}) == 24


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"candidate": "999"}, 403),
        ({"token": "0" * 32}, 403),
        ({"dimension": "taste"}, 403),
        ({"answer": "3.3"}, 400),
        ({"answer": "6"}, 400),
        ({"answer": "nan"}, 400),
        ({"answer": ""}, 422),
    ],
)
def test_answers_that_cannot_be_are_refused(signed_in, session, changed, status):
    client = signed_in("annotator", "ann")
    _, form = rate(client)
    assert client.post("/labels", data=form | changed).status_code == status
    assert len(session.scalars(select(Label)).all()) == 1


def test_somebody_elses_token_is_worth_nothing(signed_in, session):
    ann, ben = signed_in("annotator", "ann"), signed_in("annotator", "ben")
    _, form = rate(ann)
    assert ben.post("/labels", data=form).status_code == 403
    undo = f"/annotate/{form['candidate']}/{DIMENSION}/{form['token']}"
    assert ann.get(undo).status_code == 200 and ben.get(undo).status_code == 403


def test_progress_and_pace(signed_in, session):
    client = signed_in("annotator", "ann")
    for seconds in ("1", "3", "8"):
        rate(client, seconds=seconds)
    ann = person(session, "ann")
    found = read_queue(session, ann, DIMENSION, raters=2, repeat_share=0.0)
    assert (found.done, found.left, found.pace) == (3, 9, 3.0)
    other = read_queue(session, ann, "realism", 2, 0.0)
    assert (other.done, other.left, other.pace) == (0, 12, None) and other.task is not None


def test_html_in_prompts_stays_text(signed_in, session):
    client = signed_in("annotator", "ann")
    number = (
        session.scalars(select(CandidatePicture).where(CandidatePicture.prompt.has(text="a blue cross <b>bold</b>")))
        .first()
        .id
    )
    for _ in range(12):
        page = client.get("/annotate?dimension=alignment").text
        assert "<b>bold</b>" not in page
        if f'name="candidate" value="{number}"' in page:
            assert "&lt;b&gt;bold" in page
            return
        rate(client)
    pytest.fail("the picture never came")


def test_the_last_picture_is_suggested_as_an_example_in_two_clicks(signed_in):
    client = signed_in("annotator", "ann")
    _, form = rate(client, "2.5")
    page = client.get("/annotate?dimension=alignment").text
    assert "Suggest it as an example" in page
    about = {"candidate": form["candidate"], "dimension": DIMENSION, "note": "a corner", "back": "/annotate"}
    assert client.post("/examples", data=about).status_code == 303
    assert "Example of 2.5" in client.get("/annotate?dimension=alignment").text


def test_an_example_is_rated_blind_by_nobody_any_more(signed_in, session):
    ann, ben, quinn = signed_in("annotator", "ann"), signed_in("annotator", "ben"), signed_in("quality", "quinn")
    _, form = rate(ann)
    ann.post("/examples", data={"candidate": form["candidate"], "dimension": DIMENSION, "back": "/annotate"})
    assert quinn.post(f"/examples/{session.scalars(select(Example.id)).one()}/accept").status_code == 303
    session.add(Gold(candidate_id=int(form["candidate"]), dimension=DIMENSION, score=4.0))
    session.add(Repetition(candidate_id=int(form["candidate"]), dimension=DIMENSION))
    session.commit()
    assert form["candidate"] not in {sent["candidate"] for sent in [*rate_all(ann), *rate_all(ben)]}
    assert form["candidate"] in {sent["candidate"] for sent in rate_all(ben, dimension="realism")}


def left(client) -> int:
    return int(re.search(r"<b>(\d+)</b> left", client.get(f"/annotate?dimension={DIMENSION}").text)[1])


def test_suggestions_take_nothing_from_anybody_elses_queue(signed_in, session, monkeypatch):
    monkeypatch.setattr(rubric_examples, "MOST_SUGGESTED", 5)
    ann, ben = signed_in("annotator", "ann"), signed_in("annotator", "ben")
    before = left(ben)
    about = [{"candidate": form["candidate"], "dimension": DIMENSION} for form in rate_all(ann)]
    assert [ann.post("/examples", data=one).status_code for one in about] == [303] * 5 + [400] * 7
    assert left(ben) == before and "Example of" not in ben.get("/annotate").text
    assert ann.post("/examples", data=about[0] | {"note": "again"}).status_code == 303  # the same one anew
    assert ben.get("/rubric").text.count("Suggested") == 0 and ann.get("/rubric").text.count("Example of") == 5
