"""A whole campaign of the built-in world's raters, through the pages that people use, from the first rating to the export."""

from __future__ import annotations

import random
import re

import pytest
from sqlalchemy import select

from tests.studio.conftest import read_csrf
from zreward.data import load_records
from zreward.rubric import Rubric
from zreward.studio import create
from zreward.studio.app import create_app
from zreward.studio.domain import accounts
from zreward.studio.domain.exporting import rater_name
from zreward.studio.storage.project import Project, ProjectSettings
from zreward.studio.storage.schema import CandidatePicture, Gold, User
from zreward.world import try_out
from zreward.world.base_models import world_rubric
from zreward.world.raters import make_panel

PROMPTS, CANDIDATES, RATERS, SEED = 20, 4, 3, 0
"""80 pictures, half of them gold; nine raters, the last of whom is careless."""


class Campaign:
    """The world's panel rates alignment; `given` is what each rater said of each picture at first sight."""

    def __init__(self, folder) -> None:
        self.rng = random.Random(f"campaign {SEED}")
        pictures = list(try_out.pictures(PROMPTS, CANDIDATES, SEED))
        self.truth = {picture.key: picture.truth["alignment"] for picture in pictures}
        rubric = Rubric.from_dict(
            world_rubric().to_dict() | {"dimensions": [world_rubric().dimension("alignment").to_dict()]}
        )
        settings = ProjectSettings(name="Campaign", raters_per_item=RATERS, repeat_share=0.1)
        create.create_project(folder, pictures, rubric, settings, seed=SEED)
        self.project = Project(folder)
        self.app = create_app(self.project)
        self.panel = make_panel(self.rng)
        self.given: dict[tuple[str, str], float] = {}
        self.repeated = 0
        with self.app.state.studio.sessions() as session:
            keys = {candidate.id: candidate.key for candidate in session.scalars(select(CandidatePicture))}
            gold = set(session.scalars(select(Gold.candidate_id)))
            session.add_all(
                Gold(candidate_id=number, dimension="alignment", score=self.truth[key])
                for number, key in keys.items()
                if number % 2 and number not in gold
            )
            session.commit()
        self.keys = keys

    def client(self, name: str, role: str):
        from fastapi.testclient import TestClient

        with self.app.state.studio.sessions() as session:
            _, token = accounts.invite(session, name, role)
        client = TestClient(self.app)
        csrf = read_csrf(client.get(f"/invitation/{token}").text)
        page = client.post(f"/invitation/{token}", data={"csrf": csrf, "password": name * 10, "again": name * 10})
        client.headers["x-csrf-token"] = read_csrf(page.text)
        return client

    def rate_all(self, rater) -> None:
        with self.client(rater.id, "annotator") as client:  # one event loop for all of a rater's requests
            page = client.get("/annotate?dimension=alignment").text
            while 'id="rating"' in page:
                number = int(field(page, "candidate"))
                score = rater.rate(self.truth[self.keys[number]], self.rng)
                key = (rater.id, self.keys[number])
                self.repeated += key in self.given
                self.given.setdefault(key, score)
                form = {
                    "candidate": number,
                    "dimension": "alignment",
                    "token": field(page, "token"),
                    "answer": f"{score:g}",
                }
                answer = client.post("/labels", data=form | {"seconds": "2"})
                assert answer.status_code == 200
                page = answer.text


def field(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    made = Campaign(tmp_path_factory.mktemp("campaign") / "project")
    for rater in made.panel:
        made.rate_all(rater)
    yield made
    made.app.state.studio.engine.dispose()


def exported(campaign, tmp_path, **options):
    """{(rater, picture): score}, raters by their own names again."""
    quality = campaign.client("quinn", "quality")
    answer = quality.get("/quality/export/records.parquet", params=options)
    assert answer.status_code == 200, answer.text
    path = tmp_path / "records.parquet"
    path.write_bytes(answer.content)
    with campaign.app.state.studio.sessions() as session:
        names = {rater_name(campaign.project, user.id): user.name for user in session.scalars(select(User))}
    return {
        (names[rater], record.id): score
        for record in load_records(path, rubric=world_rubric())
        for rater, score in record.scores["alignment"].items()
    }


def verdicts(page: str) -> dict[str, str]:
    rows = re.findall(r'<th class="name" scope="row">(r\d)</th>\s*<td class="name">.*?>([^<]+)</span>', page, re.S)
    return dict(rows)


def test_the_export_is_what_the_raters_gave(campaign, tmp_path):
    assert exported(campaign, tmp_path, everybody=True) == campaign.given
    gold = {key for number, key in campaign.keys.items() if number % 2}
    by_picture = {key: [rater for rater, picture in campaign.given if picture == key] for key in campaign.truth}
    assert all(
        len(raters) == len(campaign.panel) if key in gold else len(raters) >= RATERS
        for key, raters in by_picture.items()
    )
    assert campaign.repeated > 0


def test_the_careless_rater_is_found_and_left_out(campaign, tmp_path):
    careless = campaign.panel[-1].id
    found = verdicts(campaign.client("quinn", "quality").get("/quality/annotators").text)
    assert set(found) == {rater.id for rater in campaign.panel}
    assert found[careless] == "below threshold"
    passing = {name for name, verdict in found.items() if verdict == "passes"}
    assert len(passing) >= len(campaign.panel) - 2  # of the careful ones about one in twenty misses 0.7
    expected = {key: score for key, score in campaign.given.items() if key[0] in passing}
    assert exported(campaign, tmp_path) == expected
