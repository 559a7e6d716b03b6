"""Annotators at once, and the server killed again and again: what a page confirmed is there, once, and nothing is left behind."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.studio.conftest import PASSWORD, read_csrf
from tests.studio.running import Server
from zreward.studio import create
from zreward.studio.domain import accounts
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.project import UNSENT, Project, ProjectSettings
from zreward.studio.storage.schema import Label
from zreward.world import try_out
from zreward.world.base_models import world_rubric

ANNOTATORS = 8


def insist(call):
    """As a person does whose page does not load: try again."""
    for _ in range(600):
        try:
            return call()
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server stayed away")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith((".zreward-", UNSENT))]


@pytest.mark.parametrize(
    ("prompts", "wanted", "kills"),
    [(4, 24, 2), pytest.param(40, 5000, 20, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_no_confirmed_label_is_lost_or_doubled(tmp_path, prompts, wanted, kills):
    settings = ProjectSettings(name="crash", raters_per_item=ANNOTATORS, repeat_share=0.0)
    create.create_project(tmp_path / "project", try_out.pictures(prompts), world_rubric(), settings)
    project = Project(tmp_path / "project")
    opened = sessions(connect(project.database_url))
    users = {}
    with opened() as session:
        for number in range(ANNOTATORS):
            user, _ = accounts.invite(session, f"a{number}", "annotator")
            accounts.accept_invitation(session, user, PASSWORD)
            users[user.name] = user.id
    server = Server(project)
    confirmed: dict[tuple[int, int, str], float] = {}
    lock, enough = threading.Lock(), threading.Event()

    def annotate(name: str) -> None:
        http = httpx.Client(base_url=server.url, timeout=60)
        form = {"csrf": read_csrf(insist(lambda: http.get("/sign-in")).text), "name": name, "password": PASSWORD}
        assert insist(lambda: http.post("/sign-in", data=form)).status_code == 303
        while not enough.is_set():
            page = insist(lambda: http.get("/annotate")).text
            if 'id="rating"' not in page:
                return
            rating = page.split('id="rating"')[1].split("</form>")[0]
            sent = dict(re.findall(r'name="(csrf|candidate|dimension|token)" value="([^"]*)"', rating))
            assert insist(lambda: http.get(f"/pictures/{sent['candidate']}?width=160")).status_code == 200  # noqa: B023
            score = 1 + 0.5 * (int(sent["candidate"]) % 9)
            answer = insist(lambda: http.post("/labels", data=sent | {"answer": f"{score:g}", "seconds": "1"}))  # noqa: B023
            assert answer.status_code == 303, answer.text
            with lock:
                confirmed[users[name], int(sent["candidate"]), sent["dimension"]] = score
                if len(confirmed) >= wanted:
                    enough.set()

    with ThreadPoolExecutor(ANNOTATORS) as threads:
        running = [threads.submit(annotate, name) for name in users]
        for kill in range(kills):
            while len(confirmed) < wanted * (kill + 1) / (kills + 1):
                assert not any(one.done() and one.exception() for one in running)
                time.sleep(0.02)
            server.kill()
            server.start()
        for one in running:
            one.result()
    server.kill()
    # What a kill in the middle of an export or of a picture's resizing leaves, whether or not it hit one.
    (project.folder / ".zreward-0123456789ab.tmp").mkdir()
    (project.folder / f"{UNSENT}0123.jsonl").write_text("half")
    server.start()
    assert not leftovers(project.folder)
    server.kill()

    with opened() as session:
        labels = session.scalars(select(Label)).all()
    found = {(label.user_id, label.candidate_id, label.dimension): label.score for label in labels}
    assert len(found) == len(labels)  # none twice
    assert len(confirmed) >= wanted and {key: found.get(key) for key in confirmed} == confirmed
    assert len(found.keys() - confirmed.keys()) <= ANNOTATORS * (kills + 1)  # saved, but killed before it was said
    assert max(Counter(key[1:] for key in found).values()) <= ANNOTATORS
