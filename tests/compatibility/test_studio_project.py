"""A studio's project of commit 07f77a1, in the middle of a campaign: people go on rating, quality control goes on exporting."""

from __future__ import annotations

import json
import re
import shutil

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'zreward[studio]'")

from fastapi.testclient import TestClient

from zreward.data import load_records
from zreward.studio.app import create_app
from zreward.studio.storage.project import Project

PASSWORD = "correct horse battery"


@pytest.fixture
def app(written):
    made = create_app(Project(written / "studio"))
    yield made
    made.state.studio.engine.dispose()


def sign_in(app, name: str) -> TestClient:
    client = TestClient(app)
    form = {"csrf": _csrf(client.get("/sign-in").text), "name": name, "password": PASSWORD}
    page = client.post("/sign-in", data=form)
    assert page.status_code == 200 and "Sign out" in page.text
    client.headers["x-csrf-token"] = _csrf(page.text)
    return client


def exported(client: TestClient) -> dict[str, dict]:
    answer = client.get("/quality/export/records.jsonl?everybody=true")
    assert answer.status_code == 200
    return {record["id"]: record for record in map(json.loads, answer.text.splitlines())}


def test_the_export_is_what_it_was(app, written):
    told = map(json.loads, (written / "expected" / "studio.jsonl").read_text().splitlines())
    assert exported(sign_in(app, "quinn")) == {record["id"]: record for record in told}


def test_people_go_on_rating_and_the_export_grows(app, written, tmp_path):
    ann, bob, quinn = sign_in(app, "ann"), sign_in(app, "bob"), sign_in(app, "quinn")
    assert "Look again." in ann.get("/annotate?dimension=alignment").text  # sent back before the upgrade
    before = _ratings(exported(quinn))
    for person in (ann, bob):
        while 'id="rating"' in (page := person.get("/annotate?dimension=alignment").text):
            about = {name: _field(page, name) for name in ("candidate", "token")}
            answer = person.post("/labels", data=about | {"dimension": "alignment", "answer": "4.5", "seconds": 2})
            assert answer.status_code == 200
    after = _ratings(exported(quinn))
    assert len(before) == 5 and len(after) > len(before)
    assert {key: score for key, score in after.items() if key in before and score != before[key]} == {}
    assert {score for key, score in after.items() if key not in before} == {4.5}
    file = written / "studio" / "records.jsonl"
    file.write_text(quinn.get("/quality/export/records.jsonl?everybody=true").text)
    assert load_records(file)


def test_both_versions_of_the_rubric_the_study_and_the_hidden_items_are_there(app):
    ann, quinn = sign_in(app, "ann"), sign_in(app, "quinn")
    assert "Does it show all that the prompt says?" in ann.get("/rubric").text
    assert "Does it show the prompt?" in quinn.get("/rubric?version=1").text
    page = ann.get("/studies/1").text
    assert "Winter study" in page
    answer = ann.post("/studies/verdicts", data={"token": _field(page, "token"), "aspect": "overall", "side": "same"})
    assert answer.status_code == 200
    for kind, count in (("gold", 1), ("repetitions", 1)):
        shown = quinn.get(f"/quality/hidden?dimension=alignment&kind={kind}").text
        assert shown.count("/pictures/") == count, kind


def test_a_database_alone_is_enough(written, tmp_path):
    """Its folder moved elsewhere."""
    moved = shutil.move(written / "studio", tmp_path / "moved")
    made = create_app(Project(tmp_path / "moved"))
    assert len(exported(sign_in(made, "quinn"))) == 5 and moved
    made.state.studio.engine.dispose()


def _ratings(records: dict[str, dict]) -> dict[tuple[str, str], float]:
    return {
        (name, rater): score
        for name, record in records.items()
        for rater, score in record["scores"]["alignment"].items()
    }


def _csrf(page: str) -> str:
    return re.search(r'<meta name="csrf" content="([0-9a-f]+)">', page)[1]


def _field(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]
