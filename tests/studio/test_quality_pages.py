"""Quality control's pages as its people use them: decisions, audit, hidden items, examples, rubric versions, export."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from zreward.studio.domain.rubric_versions import read_version
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import (
    CandidatePicture,
    Example,
    Gold,
    Label,
    Prediction,
    Repetition,
    RubricVersion,
    User,
)


@pytest.fixture
def quality(signed_in):
    return signed_in("quality", "quinn")


@pytest.fixture
def annotators(session):
    people = [User(name=name, role="annotator") for name in ("ann", "bob")]
    session.add_all(people)
    session.commit()
    return [person.id for person in people]


@pytest.fixture
def labels(session, annotators):
    """Both rate the first four pictures: ann says 3, bob says 5 of the second one."""
    made = []
    for candidate in session.scalars(select(CandidatePicture.id).order_by(CandidatePicture.id).limit(4)).all():
        for user in annotators:
            score = 5.0 if (candidate, user) == (2, annotators[1]) else 3.0
            made.append(label(user, candidate, score))
    session.add_all(made)
    session.commit()
    return made


def label(user, candidate, score, **about):
    return Label(user_id=user, candidate_id=candidate, dimension="alignment", score=score, rubric_version="1", **about)


def state_of(session, label):
    session.expire_all()
    return session.get(Label, label.id).state


def ok(response, where=None):
    assert response.status_code == 303, response.text
    if where:
        assert response.headers["location"] == where
    return response


PAGES = ("/quality", "/quality/annotators", "/quality/hidden", "/quality/export", "/rubric/edit")


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_for_quality_control_and_administrators(signed_in, quality, labels, page):
    assert quality.get(page).status_code == 200
    assert signed_in("administrator").get(page).status_code == 200
    assert signed_in("annotator").get(page).status_code == 403


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("/quality/accept", {"labels": "1:3.0"}),
        ("/quality/return", {"label": "1:3.0", "comment": "look"}),
        ("/quality/annotators/1/exclude", {"excluded": "true"}),
        ("/quality/gold", {"candidate": "1", "dimension": "alignment", "score": "3"}),
        ("/quality/repetitions", {"candidate": "1", "dimension": "alignment", "repeated": "true"}),
        ("/quality/repetitions/draw", {"dimension": "alignment", "count": "3"}),
        ("/rubric", {"from_version": "1"}),
        ("/examples/1/remove", {}),
    ],
)
def test_annotators_can_decide_nothing(session, signed_in, labels, address, form):
    assert signed_in("annotator").post(address, data=form).status_code == 403
    assert state_of(session, labels[0]) == "submitted"


def test_the_widest_panel_is_first_and_html_in_prompts_stays_text(session, quality, labels):
    session.scalar(select(CandidatePicture).where(CandidatePicture.id == 1)).prompt.text = "<script>alert(1)</script>"
    session.commit()
    page = quality.get("/quality").text
    assert page.index('id="picture-2"') < page.index('id="picture-1"') < page.index('id="picture-3"')
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "student" not in page


def test_the_student_sorts_the_queue_and_is_named(session, quality, labels):
    for candidate, std in ((1, 0.1), (2, 0.2), (3, 0.9), (4, 0.3)):
        session.add(Prediction(candidate_id=candidate, dimension="alignment", mean=3.0, std=std, model="risd"))
    session.commit()
    page = quality.get("/quality").text
    assert page.index('id="picture-3"') < page.index('id="picture-4"') < page.index('id="picture-2"')
    assert "The student is risd" in page
    page = quality.get("/quality?order=disagreement").text
    assert page.index('id="picture-2"') < page.index('id="picture-1"')


def test_accepting_and_sending_back(session, quality, labels):
    before = labels[0].changed
    ok(quality.post("/quality/accept", data={"labels": [f"{x.id}:3.0" for x in labels[:2]], "back": "/quality?page=1"}))
    assert [state_of(session, x) for x in labels[:3]] == ["accepted", "accepted", "submitted"]
    assert session.get(Label, labels[0].id).changed == before
    ok(quality.post("/quality/return", data={"label": f"{labels[3].id}:5.0", "comment": " two cats? "}), "/quality")
    session.expire_all()
    returned = session.get(Label, labels[3].id)
    assert (returned.state, returned.comment) == ("returned", "two cats?")
    assert "two cats?" in quality.get("/quality?state=returned").text


def test_sending_back_needs_a_comment(session, quality, labels):
    answer = quality.post("/quality/return", data={"label": f"{labels[0].id}:3.0", "comment": "  "})
    assert answer.status_code == 400 and "what the annotator should look at" in answer.text
    assert state_of(session, labels[0]) == "submitted"


def test_a_label_that_was_changed_meanwhile_is_left_alone(session, quality, labels):
    labels[0].adjusted = 3.5
    session.commit()
    answer = quality.post("/quality/accept", data={"labels": f"{labels[0].id}:3.0", "back": "/quality?page=1"})
    ok(answer, "/quality?page=1&notice=changed")
    assert state_of(session, labels[0]) == "submitted"
    assert "has changed a label meanwhile" in quality.get("/quality?page=1&notice=changed").text
    ok(quality.post("/quality/accept", data={"labels": f"{labels[0].id}:3.5"}))
    assert state_of(session, labels[0]) == "accepted"


def test_what_could_not_be_judged_can_be_accepted_too(session, quality, annotators):
    session.add(unjudged := label(annotators[0], 1, None))
    session.commit()
    assert f'value="{unjudged.id}:"' in quality.get("/quality").text
    ok(quality.post("/quality/accept", data={"labels": f"{unjudged.id}:"}))
    assert state_of(session, unjudged) == "accepted"


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_elsewhere(quality, labels, back):
    ok(quality.post("/quality/accept", data={"labels": "1:3.0", "back": back}), "/quality")


def test_queries_that_make_no_sense_are_refused_with_a_sentence(quality, labels):
    for query, message in (
        ("dimension=beauty", "unknown dimension &#39;beauty&#39;"),
        ("state=lost", "expected one of submitted, accepted, returned"),
        ("order=uncertainty", "expected one of spread, oldest"),
    ):
        answer = quality.get(f"/quality?{query}")
        assert answer.status_code == 400 and message in answer.text
    assert quality.get("/quality?page=99").status_code == 200
    assert quality.get("/quality?user=&page=1").status_code == 200


def test_gold_measures_and_only_who_passes_is_exported(session, quality, labels):
    assert quality.get("/quality/export/records.jsonl").status_code == 400
    ok(quality.post("/quality/gold", data={"candidate": 2, "dimension": "alignment", "score": "3.5"}))
    page = quality.get("/quality/annotators").text
    assert page.index("ann</th>") < page.index("passes") < page.index("bob</th>") < page.index("below threshold")
    export = quality.get("/quality/export").text
    assert "reaches 0.70 with 1.00 on 1 gold item" in export and "misses 0.70 with 0.00 on 1 gold item" in export
    answer = quality.get("/quality/export/records.parquet")
    rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    assert (
        len(rows) == 4 and all(row["image"]["bytes"] for row in rows) and all("rater-" in row["scores"] for row in rows)
    )
    lines = quality.get("/quality/export/records.jsonl?everybody=true").text.splitlines()
    assert len(lines) == 4 and all('"image": "images/' in line for line in lines)


def test_a_file_for_download_does_not_stay(project, session, quality, labels):
    session.add(Gold(candidate_id=1, dimension="alignment", score=3.0))
    session.commit()
    assert quality.get("/quality/export/records.parquet").status_code == 200
    assert not list(project.folder.glob(".export*"))
    assert quality.get("/quality/export/records.exe").status_code == 400


def test_somebody_can_be_left_out_by_hand(session, quality, labels, annotators):
    ok(quality.post(f"/quality/annotators/{annotators[0]}/exclude", data={"excluded": "true"}))
    assert "excluded" in quality.get("/quality/annotators").text
    session.expire_all()
    assert session.get(User, annotators[0]).excluded
    ok(quality.post(f"/quality/annotators/{annotators[0]}/exclude", data={"excluded": "false"}))
    session.expire_all()
    assert not session.get(User, annotators[0]).excluded


def test_gold_can_be_changed_and_taken_back(session, quality, labels):
    form = {"candidate": 1, "dimension": "alignment", "score": "4"}
    ok(quality.post("/quality/gold", data=form))
    ok(quality.post("/quality/gold", data=form | {"score": "4.5"}))
    assert session.scalars(select(Gold.score)).all() == [4.5]
    assert "gold 4.5" in quality.get("/quality/hidden").text
    assert quality.post("/quality/gold", data=form | {"score": "9"}).status_code == 400
    assert quality.post("/quality/gold", data=form | {"candidate": 99}).status_code == 400
    ok(quality.post("/quality/gold", data=form | {"remove": "1"}))
    assert session.scalars(select(Gold)).all() == []


def test_repetitions(session, quality, labels):
    ok(quality.post("/quality/repetitions", data={"candidate": 1, "dimension": "alignment", "repeated": "true"}))
    ok(quality.post("/quality/repetitions/draw", data={"dimension": "alignment", "count": 100}))
    assert len(session.scalars(select(Repetition)).all()) == 12
    ok(quality.post("/quality/repetitions", data={"candidate": 1, "dimension": "alignment", "repeated": "false"}))
    session.expire_all()
    assert len(session.scalars(select(Repetition)).all()) == 11
    assert "repeated" in quality.get("/quality/hidden?kind=repetitions").text


def test_the_next_version_of_the_rubric(session, quality, signed_in):
    texts = {"from_version": "1", "alignment.5": "all of it", "note": "shorter"}
    ok(quality.post("/rubric", data=texts), "/rubric?notice=saved")
    session.expire_all()
    version = newest_version(session)
    assert (version.version, version.note) == ("2", "shorter")
    assert read_version(version).dimension("alignment").anchors[5] == "all of it"
    answer = quality.post("/rubric", data=texts | {"alignment.5": "most of it"})
    assert answer.status_code == 400 and "is in force now" in answer.text
    annotator = signed_in("annotator")
    assert "all of it" in annotator.get("/rubric").text and "all of it" not in annotator.get("/rubric?version=1").text
    assert "Write the next version" not in annotator.get("/rubric").text
    assert quality.get("/rubric?version=7").status_code == 400
    assert len(session.scalars(select(RubricVersion)).all()) == 2


def test_quality_control_puts_a_picture_beside_a_bin(session, quality, signed_in):
    form = {"candidate": 1, "dimension": "alignment", "score": "2.5", "note": "<i>odd</i>", "back": "/quality"}
    ok(quality.post("/examples", data=form), "/quality?notice=saved")
    page = signed_in("annotator").get("/rubric").text
    assert "Example of 2.5" in page and "&lt;i&gt;odd" in page and "/remove" not in page
    example = session.scalar(select(Example))
    ok(quality.post(f"/examples/{example.id}/remove"))
    session.expire_all()
    assert session.scalars(select(Example)).all() == []


def test_an_annotators_corner_case_takes_the_score_that_he_gave(session, signed_in):
    annotator = signed_in("annotator", "ann")
    user = session.scalar(select(User).where(User.name == "ann"))
    form = {"candidate": 1, "dimension": "alignment", "score": "5", "back": "/annotate"}
    answer = annotator.post("/examples", data=form)
    assert answer.status_code == 400 and "only a picture that you have rated" in answer.text
    session.add(label(user.id, 1, 2.0))
    session.commit()
    ok(annotator.post("/examples", data=form), "/annotate?notice=suggested")
    assert session.scalar(select(Example.score)) == 2.0
