"""Every page of a campaign that is half done, at 1440 and 390 pixels.

`ZREWARD_SCREENSHOTS=1 make test-browser ARGS="-k every_page"` makes the pictures in docs/images/studio anew.
"""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select

from tests.studio.browser.person import Person
from tests.studio.running import Server
from zreward.studio import create
from zreward.studio.domain import accounts
from zreward.studio.domain.studies import close_study, next_assignment, save_verdict
from zreward.studio.domain.study_creation import add_study
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.project import Project, ProjectSettings
from zreward.studio.storage.schema import CandidatePicture, Example, Label, User
from zreward.world import try_out
from zreward.world.base_models import world_rubric

pytestmark = pytest.mark.browser

PEOPLE = {"ann": "annotator", "ben": "annotator", "carl": "annotator", "quinn": "quality", "root": "administrator"}


@pytest.fixture
def campaign(tmp_path, draw_folder):
    """A try-out: three annotators have rated most of alignment and some of realism; two comparisons, one of them closed."""
    rng = random.Random("pages")
    pictures = list(try_out.pictures(6))
    create.create_project(
        tmp_path / "p", pictures, world_rubric(), ProjectSettings(name="Winter campaign", raters_per_item=3)
    )
    project = Project(tmp_path / "p")
    truth = {picture.key: picture.truth for picture in pictures}
    with sessions(connect(project.database_url))() as session:
        links = {name: accounts.invite(session, name, role)[1] for name, role in PEOPLE.items()}
        users = {user.name: user for user in session.scalars(select(User))}
        for candidate in session.scalars(select(CandidatePicture)):
            for name in ("ann", "ben", "carl"):
                for dimension, share in (("alignment", 0.9), ("realism", 0.3)):
                    if rng.random() < share:
                        score = truth[candidate.key][dimension] if name != "carl" else 1 + rng.randrange(9) / 2
                        about = {"user_id": users[name].id, "candidate_id": candidate.id, "dimension": dimension}
                        session.add(Label(**about, score=score, seconds=2 + 4 * rng.random(), rubric_version="1"))
        for number in (2, 3, 5):
            about = {"candidate_id": number, "dimension": "alignment", "score": 3.0, "rubric_version": "1"}
            session.add(Example(**about, note="the cube is cut off", author_id=users["ann"].id, accepted=number != 5))
        session.commit()
        folders = [draw_folder(tmp_path / name, colour) for name, colour in (("frozen", "teal"), ("tuned", "orange"))]
        for name in ("Winter study", "Spring study"):
            study = add_study(session, project.folder, *folders, (), name=name, raters_per_pair=2)
        for user in ("ann", "ben"):
            while given := next_assignment(session, study.id, users[user]):
                save_verdict(session, given, "overall", rng.choice(("left", "same", "right")))
        close_study(session, study.id)
    server = Server(project)
    yield server, links
    server.kill()


def test_every_page_fits_and_is_accessible(campaign, chromium):
    server, links = campaign
    visits = {
        "ann": {
            "rate": "/annotate", "adjust": "/adjust?dimension=alignment", "studies": "/studies", "judge": "/studies/1",
            "progress-own": "/progress", "refused": "/quality", "judge-nothing-left": "/studies/2",
        },
        "root": {
            "people": "/people", "quality": "/quality?dimension=alignment", "annotators": "/quality/annotators",
            "hidden": "/quality/hidden", "hidden-all": "/quality/hidden?kind=all&dimension=alignment",
            "progress": "/progress", "export": "/quality/export", "rubric": "/rubric", "rubric-edit": "/rubric/edit",
            "studies-quality": "/studies", "study-result": "/studies/2/result",
        },
    }  # fmt: skip
    for name, pages in visits.items():
        person = Person(chromium, f"{server.url}/invitation/{links[name]}")
        for page, path in pages.items():
            person.go(path)
            person.look(page)
        person.click("Sign out")
        person.look("sign-in")


ACTIONS = {"/people": "Change", "/quality/annotators": "Exclude", "/quality?dimension=alignment": "Accept"}


def test_actions_are_on_the_screen_of_a_narrow_window(campaign, chromium):
    """No table hides them to the right."""
    server, links = campaign
    person = Person(chromium, f"{server.url}/invitation/{links['root']}")
    person.page.set_viewport_size({"width": 390, "height": 780})
    for path, button in ACTIONS.items():
        person.go(path)
        found = person.page.locator("table button", has_text=button).all()
        assert found, path
        for one in found:
            box = one.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, path
            inside = one.evaluate(
                "(button) => { const s = button.closest('.scroll'); return s.scrollWidth <= s.clientWidth; }"
            )
            assert inside, path
