"""Writes `written/studio` with the code of an older commit (see README.md): a project half-way through a campaign.

    python write_studio.py OUT

Two prompts of three pictures; ann has rated most of alignment, bob a part; gold, a repetition, an example, a second version
of the rubric; quality control accepted one label and sent one back; a study with one verdict.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from pathlib import Path

from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from PIL import Image
from zreward.studio.project import Project, ProjectSettings
from zreward.studio.study_creation import create_study

from zreward.rubric import Dimension, Rubric
from zreward.studio import accounts, create
from zreward.studio.app import create_app

PASSWORD = "correct horse battery"
SECOND = {"alignment.title": "Alignment", "alignment.question": "Does it show all that the prompt says?"}


def main(out: Path) -> None:
    accounts._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # quick to check
    source = out.with_name("source")
    rubric = Rubric(
        "tiny", "1", dimensions=(Dimension("alignment", "Alignment", "Does it show the prompt?", {1: "no", 5: "yes"}),)
    )
    settings = ProjectSettings(name="Before", raters_per_item=2, repeat_share=0.0)
    create.init(out, create.from_folder(_pictures(source / "pool", "blue", 3)), rubric, settings)
    project = Project(out)
    app = create_app(project)

    def join(name: str, role: str) -> TestClient:
        with app.state.studio.sessions() as session:
            _, token = accounts.invite(session, name, role)
        client = TestClient(app)
        form = {"csrf": _csrf(client.get(f"/invitation/{token}").text), "password": PASSWORD, "again": PASSWORD}
        client.headers["x-csrf-token"] = _csrf(client.post(f"/invitation/{token}", data=form).text)
        return client

    ann, bob, quinn = join("ann", "annotator"), join("bob", "annotator"), join("quinn", "quality")
    _post(quinn, "/quality/gold", candidate=1, dimension="alignment", score=3)
    _post(quinn, "/quality/repetitions", candidate=2, dimension="alignment", repeated=True)
    given = _rate(ann, 3)
    _post(quinn, "/rubric", from_version="1", note="clearer", **SECOND)
    _rate(ann, 1)
    _rate(bob, 2)
    first, second = list(given)[:2]  # labels 1 and 2
    _post(quinn, "/quality/accept", labels=f"1:{given[first]}")
    _post(quinn, "/quality/return", label=f"2:{given[second]}", comment="Look again.")
    _post(ann, "/examples", candidate=first, dimension="alignment", note="typical", back="/annotate")
    create_study(out, _pictures(source / "one", "red", 1), _pictures(source / "two", "green", 1), "Winter study", (), 2)
    page = ann.get("/studies/1").text
    _post(ann, "/studies/verdicts", token=_field(page, "token"), aspect="overall", side="left")
    answer = quinn.get("/quality/export/records.jsonl?everybody=true")
    assert answer.status_code == 200, answer.text
    (out.parent / "expected" / "studio.jsonl").write_text(answer.text)
    app.state.studio.engine.dispose()
    shutil.rmtree(source)
    with sqlite3.connect(out / "studio.sqlite", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")


def _pictures(folder: Path, colour: str, seeds: int) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for prompt in ("a cube", "a ball"):
        for seed in range(seeds):
            name = f"{colour}-{prompt[-4:]}-{seed}.png"
            Image.new("RGB", (8 + seed, 8), colour).save(folder / name)
            rows.append({"image": name, "prompt": prompt, "seed": seed})
    (folder / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _rate(client: TestClient, count: int) -> dict[int, float]:
    """Answer the next `count` pictures: the first with 2, the next with 2.5, and so on."""
    given = {}
    for number in range(count):
        page = client.get("/annotate?dimension=alignment").text
        candidate, score = int(_field(page, "candidate")), 2 + number / 2
        about = {"candidate": candidate, "dimension": "alignment", "token": _field(page, "token")}
        _post(client, "/labels", answer=f"{score:g}", seconds=2, **about)
        given[candidate] = score
    return given


def _post(client: TestClient, path: str, **form: object) -> None:
    answer = client.post(path, data=form)
    assert answer.status_code == 200, (path, answer.text)


def _csrf(page: str) -> str:
    return re.search(r'<meta name="csrf" content="([0-9a-f]+)">', page)[1]


def _field(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
