"""A blind comparison in the browser's eyes: nothing tells a side, whatever is asked for, before it is closed."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from zreward.studio.domain.study_creation import add_study
from zreward.studio.storage.schema import Assignment, Study, Verdict


@pytest.fixture
def study(session, project, tmp_path, draw_folder) -> Study:
    before = draw_folder(tmp_path / "frozenbase", "red", tags=("shape",))
    after = draw_folder(tmp_path / "tunedmodel", "blue", prompts=("a ball", "a cube"))
    return add_study(session, project.folder, before, after, ("alignment", "realism"), raters_per_pair=2)


def token_of(page: str) -> str | None:
    found = re.search(r'name="token" value="([^"]+)"', page)
    return found[1] if found else None


def judge(client, study, side="left", aspect="overall"):
    """One verdict on what is shown; False when nothing is."""
    token = token_of(client.get(f"/studies/{study.id}").text)
    if token:
        form = {"token": token, "aspect": aspect, "side": side, "seconds": "2.5"}
        assert client.post("/studies/verdicts", data=form).status_code == 303
    return bool(token)


def judge_all(client, study):
    while judge(client, study):
        pass


def test_a_rater_judges_every_pair_and_quality_control_closes_and_sees_the_result(signed_in, study, session):
    ann, quality = signed_in("annotator", "ann"), signed_in("quality")
    judge_all(ann, study)
    assert "You have judged all 4 pairs" in ann.get(f"/studies/{study.id}").text
    assert "4 of 8 verdicts" in quality.get("/studies").text
    answer = quality.post(f"/studies/{study.id}/close")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study.id}/result")
    page = quality.get(f"/studies/{study.id}/result").text
    assert "tunedmodel" in page and "frozenbase" in page
    found = quality.get(f"/studies/{study.id}/result.json").json()
    assert (found["before"], found["after"], found["pairs"]) == ("frozenbase", "tunedmodel", 4)
    said = session.scalars(select(Verdict.outcome)).all()
    counted = found["aspects"]["overall"]["pairs"]
    assert [counted[name] for name in ("good", "same", "bad")] == [said.count(name) for name in ("good", "same", "bad")]
    assert found["aspects"]["overall"]["sides"] == {"left": 4, "same": 0, "right": 0}


def test_nothing_that_a_browser_gets_tells_a_side_before_the_end(signed_in, study, session):
    ann, quality, admin = signed_in("annotator"), signed_in("quality"), signed_in("administrator")
    judge(ann, study)
    session.expire_all()
    pair = study.pairs[0]
    secrets = [study.before, study.after, str(study.seed), "red-", "blue-"]
    secrets += [path for pair in study.pairs for path in (pair.before, pair.after)]
    token = token_of(ann.get(f"/studies/{study.id}").text)
    for client in (ann, quality, admin):
        for address in ("/studies", f"/studies/{study.id}", f"/studies/{study.id}?token={token}", "/rubric"):
            answer = client.get(address)
            whole = answer.text + str(dict(answer.headers))
            assert not [secret for secret in secrets if secret in whole], address
        for address in ("result", "result.json", f"pairs/{pair.id}/before", f"pairs/{pair.id}/after"):
            assert client.get(f"/studies/{study.id}/{address}").status_code == 403
    left, right = (ann.get(f"/studies/pictures/{token}/{side}") for side in ("left", "right"))
    assert left.headers.keys() == right.headers.keys() and left.content != right.content
    for picture in (left, right):
        assert picture.headers["content-type"] == "image/png" and b"made by" not in picture.content


def test_an_annotator_neither_closes_a_study_nor_sees_its_result(signed_in, study):
    ann = signed_in("annotator")
    assert ann.post(f"/studies/{study.id}/close").status_code == 403
    signed_in("quality").post(f"/studies/{study.id}/close")
    assert ann.get(f"/studies/{study.id}/result").status_code == 403
    page = ann.get(f"/studies/{study.id}").text
    assert "This comparison is closed." in page and "tunedmodel" not in page


def test_a_pair_belongs_to_its_rater(signed_in, study):
    ann, ben = signed_in("annotator", "ann"), signed_in("annotator", "ben")
    token = token_of(ann.get(f"/studies/{study.id}").text)
    assert ben.get(f"/studies/{study.id}?token={token}").status_code == 404
    assert ben.get(f"/studies/pictures/{token}/left").status_code == 404
    form = {"token": token, "aspect": "overall", "side": "left"}
    assert ben.post("/studies/verdicts", data=form).status_code == 404


def test_the_last_verdict_can_be_looked_at_and_changed(signed_in, study, session):
    ann = signed_in("annotator")
    judge(ann, study, "left")
    page = ann.get(f"/studies/{study.id}").text
    previous = re.search(r'href="(/studies/\d+\?token=[^"]+)" data-key="undo"', page)[1]
    again = ann.get(previous).text
    assert re.search(r'value="left" aria-pressed="true"', again)
    form = {"token": token_of(again), "aspect": "overall", "side": "same", "seconds": "-1"}
    ann.post("/studies/verdicts", data=form)
    assert session.scalars(select(Verdict.outcome)).all() == ["same"]


def test_aspects_are_asked_one_after_the_other(signed_in, session, project, tmp_path, draw_folder):
    folders = (draw_folder(tmp_path / c, c, prompts=("a cube",), seeds=(0,)) for c in ("red", "blue"))
    study = add_study(session, project.folder, *folders, ("alignment",), aspects=["overall", "alignment"])
    ann = signed_in("annotator")
    first = ann.get(f"/studies/{study.id}").text
    assert judge(ann, study, aspect="overall")
    second = ann.get(f"/studies/{study.id}").text
    assert token_of(first) == token_of(second)
    asked = [re.search(r'data-current>.*?name="aspect" value="(\w+)"', page, re.S)[1] for page in (first, second)]
    assert asked == ["overall", "alignment"]
    assert judge(ann, study, aspect="alignment") and not judge(ann, study)


def test_bad_answers_are_refused(signed_in, study, session):
    ann = signed_in("annotator")
    token = token_of(ann.get(f"/studies/{study.id}").text)
    good = {"token": token, "aspect": "overall", "side": "left"}
    for change, status in (({"side": "up"}, 400), ({"aspect": "beauty"}, 400), ({"token": "x"}, 404)):
        assert ann.post("/studies/verdicts", data=good | change).status_code == status
    assert ann.get(f"/studies/{study.id + 1}").status_code == 404
    assert ann.get(f"/studies/pictures/{token}/middle").status_code == 422
    signed_in("quality").post(f"/studies/{study.id}/close")
    assert ann.post("/studies/verdicts", data=good).status_code == 400
    assert not session.scalars(select(Verdict)).all() and len(session.scalars(select(Assignment)).all()) == 1


def test_a_prompt_is_text_and_never_markup(signed_in, session, project, tmp_path, draw_folder):
    prompt = '<script>alert(1)</script> "><img src=x onerror=alert(1)>'
    folders = (draw_folder(tmp_path / c, c, prompts=(prompt,), seeds=(0,)) for c in ("red", "blue"))
    study = add_study(session, project.folder, *folders, (), name="<b>bold</b>")
    ann, quality = signed_in("annotator"), signed_in("quality")
    pages = [ann.get("/studies").text, ann.get(f"/studies/{study.id}").text]
    quality.post(f"/studies/{study.id}/close")
    pages.append(quality.get(f"/studies/{study.id}/result").text)
    for page in pages:
        assert "<script>alert" not in page and "<img src=x" not in page and "<b>bold</b>" not in page
    assert "&lt;script&gt;alert(1)" in pages[1] and "&lt;script&gt;alert(1)" in pages[2]


def test_an_empty_study_room_says_how_to_make_one(signed_in):
    assert "zreward compare A B --study PROJECT" in signed_in("quality").get("/studies").text
