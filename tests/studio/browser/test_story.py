"""The whole way in a real browser: rating, adjusting, quality control, and an export that a training reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.studio.browser.person import Person
from tests.studio.running import Server
from zreward.data import load_records
from zreward.studio import create
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.project import Project, ProjectSettings
from zreward.studio.storage.schema import CandidatePicture, Gold, Label, User
from zreward.world import try_out
from zreward.world.base_models import world_rubric

pytestmark = pytest.mark.browser

PROMPTS = 6
KEYS = {1 + 0.5 * n: str(n + 1) for n in range(9)}


class Campaign:
    """A try-out project with every picture gold on alignment, its server, and what the pictures deserve."""

    def __init__(self, folder: Path) -> None:
        pictures = list(try_out.pictures(PROMPTS))
        settings = ProjectSettings(name="Try-out", raters_per_item=3)
        self.token = create.create_project(folder, pictures, world_rubric(), settings)
        self.project = Project(folder)
        self.sessions = sessions(connect(self.project.database_url))
        truth = {picture.key: picture.truth["alignment"] for picture in pictures}
        with self.sessions() as session:
            candidates = session.scalars(select(CandidatePicture)).all()
            self.truth = {candidate.id: truth[candidate.key] for candidate in candidates}
            known = set(session.scalars(select(Gold.candidate_id).where(Gold.dimension == "alignment")))
            session.add_all(
                Gold(candidate_id=n, dimension="alignment", score=score)
                for n, score in self.truth.items()
                if n not in known
            )
            session.commit()
        self.server = Server(self.project)

    def people(self) -> dict[str, int]:
        with self.sessions() as session:
            return {user.name: user.id for user in session.scalars(select(User))}

    def labels(self, **about) -> list[Label]:
        with self.sessions() as session:
            return list(session.scalars(select(Label).filter_by(**about)))


@pytest.fixture
def campaign(tmp_path):
    made = Campaign(tmp_path / "project")
    yield made
    made.server.kill()


def test_three_annotators_quality_control_and_a_training(campaign, chromium, tmp_path):
    admin = Person(chromium, f"{campaign.server.url}/invitation/{campaign.token}")
    links = {}
    for name, role in (("ann", "annotator"), ("ben", "annotator"), ("carl", "annotator"), ("quinn", "quality")):
        admin.go("/people")
        admin.page.fill("#name", name)
        admin.page.select_option("#role", role)
        admin.click("Make an invitation")
        links[name] = admin.page.locator("#link").inner_text()
    admin.look("people")

    # Step 1, by keyboard: two careful people, one who always presses the same key.
    people = {name: Person(chromium, link) for name, link in links.items()}
    ann, quinn = people["ann"], people["quinn"]
    ann.look("rate")
    ann.page.keyboard.press("z")
    ann.look("rate-zoomed")
    ann.page.keyboard.press("Escape")
    careful = lambda number: KEYS[campaign.truth[number]]  # noqa: E731
    assert ann.rate_all("alignment", careful) >= 4 * PROMPTS
    people["ben"].rate_all("alignment", careful)
    people["carl"].rate_all("alignment", lambda number: "9" if campaign.truth[number] < 3 else "1")
    numbers = campaign.people()
    given = campaign.labels(user_id=numbers["ann"], dimension="alignment", occasion=0)
    assert {label.candidate_id: label.score for label in given} == campaign.truth

    ann.go("/annotate?dimension=alignment")
    ann.look("rate-nothing-left")

    # Step 2: the first group is told apart by keyboard, the others stay.
    ann.go("/adjust")
    if ann.page.locator("#adjust").count():
        ann.page.keyboard.press("ArrowDown")
        ann.look("adjust")
        ann.press("Enter")
    while ann.page.locator("#adjust").count():
        ann.press("Enter")

    # Step 3: one label goes back with a comment, comes first, and is answered again; the careless one is found.
    quinn.go("/quality")
    quinn.look("quality")
    first = quinn.page.locator("tr", has=quinn.page.get_by_text("ann", exact=True)).first
    first.locator("summary").click()
    first.locator("input[name=comment]").fill("Count the objects again.")
    with quinn.page.expect_navigation():
        first.locator("details button").click()
    ann.go("/annotate?dimension=alignment")
    assert ann.page.get_by_text("Sent back: Count the objects again.").is_visible()
    number = int(ann.page.locator("#rating input[name=candidate]").input_value())
    ann.press(careful(number))
    for name in ("annotators", "hidden", "export"):
        quinn.go(f"/quality/{name}")
        quinn.look(name)
    quinn.go("/quality/hidden?kind=all&dimension=realism")
    quinn.look("hidden-all")
    for person, name in ((quinn, "progress"), (ann, "progress-own")):
        person.go("/progress")
        person.look(name)
    quinn.go("/quality/annotators")
    verdict = {
        row.locator("th").inner_text(): row.locator("td").first.inner_text()
        for row in quinn.page.locator("table").first.locator("tbody tr").all()
    }
    assert "passes" in verdict["ann"] and "passes" in verdict["ben"] and "below threshold" in verdict["carl"]
    quinn.click("Exclude carl")

    # The rubric lives: a corner case becomes an example in two clicks, a wording the next version.
    ann.go("/annotate?dimension=realism")
    ann.press("7")
    ann.page.get_by_text("Corner case").click()
    ann.click("Suggest it as an example")
    quinn.go("/rubric")
    quinn.look("rubric-suggested")
    quinn.page.get_by_role("button", name="Accept the example of realism 4").click()
    ann.go("/annotate?dimension=realism")
    ann.page.get_by_alt_text("Example of 4").wait_for(state="visible", timeout=25000)
    quinn.go("/rubric/edit")
    quinn.look("rubric-edit")
    quinn.page.locator("textarea, input[type=text]").first.fill("Does the picture show what was asked for?")
    quinn.click("Put the next version in force")
    quinn.go("/rubric")
    quinn.look("rubric")

    # The export feeds a training.
    quinn.go("/quality/export")
    with quinn.page.expect_download() as download:
        quinn.page.get_by_role("button", name="Parquet").click()
    records = tmp_path / "records.parquet"
    download.value.save_as(records)
    exported = [record for record in load_records(records) if "alignment" in record.scores]
    assert len(exported) == 4 * PROMPTS and all(len(record.scores["alignment"]) == 2 for record in exported)
    recipe = Path(__file__).parents[3] / "recipes" / "world-sft.yaml"
    command = [sys.executable, "-m", "zreward.cli", "train", str(recipe), f"data.train={records}", "data.dev=null"]
    command += [f"out={tmp_path / 'run'}", "optimizer.steps=2", "model.name=world:small"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "model" / "zreward.json").exists()
