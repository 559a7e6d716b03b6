"""How long the studio's pages take with many labels in SQLite.

    python benchmarks/studio_pages.py [--json FILE] [--labels 100000] [--rounds 15]

As many random labels as asked for, by twelve annotators, on pictures of which one in eleven is still to be rated; a student's
predictions of every picture; and two blind comparisons of 1,000 pairs, one of them closed. The application runs in this
process, without a network. An annotator saves a label before each look at a page, so that what was counted before is out of
date. Two things are shown from memory all the same, so that the medians of their pages leave them out: the audit of the
annotators (/quality/annotators, /quality/export) is kept for 20 times as long as it took, a closed comparison's result for
good. The first look at /quality/annotators and at the result counts them; the audit counted anew has a line of its own.
Prints the first, the median and the longest milliseconds of every page; the JSON file holds the three by page.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import insert, select

from zreward.common.runs import versions
from zreward.studio import create
from zreward.studio.app import create_app
from zreward.studio.domain import accounts, measuring
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.storage.project import Project, ProjectSettings
from zreward.studio.storage.schema import (
    OUTCOMES,
    OVERALL,
    Assignment,
    CandidatePicture,
    Gold,
    Label,
    Prediction,
    PromptGroup,
    Repetition,
    Study,
    StudyPair,
    User,
    Verdict,
    now,
)
from zreward.world import try_out
from zreward.world.base_models import world_rubric

ANNOTATORS, RATERS, CANDIDATES = 12, 3, 4
PASSWORD = "a password of the benchmark"
PAIRS = 1000
RATER, SAVE, NEW_PICTURE, AUDIT = "annotator 0", "POST /labels", "a picture's first time", "the audit, counted anew"
PAGES = {
    "annotator": (
        "/annotate", "/annotate?dimension=realism", "/adjust", "/studies", "/studies/1", "/rubric", "/pictures/1?width=320",
    ),
    "quality": (
        "/quality", "/quality?state=accepted", "/quality?order=oldest", "/quality?order=spread",
        "/quality?order=disagreement", "/quality/annotators", "/quality/hidden", "/quality/export", "/studies",
        "/studies/2/result", "/rubric",
    ),
    "administrator": ("/people",),
}  # fmt: skip


def fill(app, labels: int, rng: random.Random) -> None:
    """As many labels as asked for, on copies of the project's pictures."""
    names = world_rubric().dimension_names
    pictures = -(-labels // (RATERS * len(names)))
    unrated = pictures // 10
    with app.state.studio.sessions() as session:
        images = session.scalars(select(CandidatePicture.image)).all()
        people = [User(name=f"annotator {n}", role="annotator") for n in range(ANNOTATORS)]
        session.add_all(people)
        for number in range((pictures + unrated) // CANDIDATES + 1):
            prompt = PromptGroup(text=f"prompt {number}", group=f"filled {number}")
            for n in range(CANDIDATES):
                prompt.candidates.append(CandidatePicture(key=f"filled-{number}-{n}", image=rng.choice(images)))
            session.add(prompt)
        session.flush()
        found = list(session.scalars(select(CandidatePicture.id).order_by(CandidatePicture.id)))
        raters = [user.id for user in people]
        rows = [
            {"user_id": user, "candidate_id": candidate, "dimension": name, "score": 1 + 0.5 * rng.randrange(9),
             "state": rng.choice(["submitted", "accepted"]), "seconds": rng.uniform(2, 9), "rubric_version": "1"}
            for candidate in found for name in names for user in rng.sample(raters, RATERS)
        ][:labels]  # fmt: skip
        session.execute(insert(Label), rows)
        session.add_all(Gold(candidate_id=n, dimension=names[0], score=3.0) for n in rng.sample(found, 100))
        session.add_all(Repetition(candidate_id=n, dimension=names[0]) for n in rng.sample(found, 100))
        session.add_all(
            Prediction(candidate_id=n, dimension=name, mean=rng.uniform(1, 5), std=rng.random(), model="student")
            for n in found
            for name in names
        )
        for number in (1, 2):
            session.add_all(study(f"Study {number}", images, raters, rng, closed=number == 2))
        session.commit()


def study(name: str, images: Sequence[str], raters: Sequence[int], rng: random.Random, closed: bool) -> list[Any]:
    """A comparison, judged by two or three of the raters a pair, but not by the first."""
    made = Study(name=name, before="old", after="new", raters_per_pair=RATERS, closed=now() if closed else None)
    verdicts = []
    for number in range(PAIRS):
        pair = StudyPair(prompt=f"prompt {number}", tags=["tag"], before=rng.choice(images), after=rng.choice(images))
        made.pairs.append(pair)
        for user in rng.sample(raters[1:], RATERS - rng.randrange(2)):
            given = Assignment(pair=pair, user_id=user, after_left=rng.random() < 0.5, token=rng.randbytes(16).hex())
            verdicts.append(Verdict(assignment=given, aspect=OVERALL, outcome=rng.choice(OUTCOMES)))
    return [made, *verdicts]


def sign_in(app, name: str, role: str) -> TestClient:
    with app.state.studio.sessions() as session:
        user, _ = accounts.invite(session, name, role)
        accounts.accept_invitation(session, user, PASSWORD)
    client = TestClient(app, follow_redirects=False)
    csrf = re.search(r'<meta name="csrf" content="(\w+)">', client.get("/sign-in").text)
    assert csrf is not None
    answer = client.post("/sign-in", data={"csrf": csrf[1], "name": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


class Annotator:
    """Somebody who rates."""

    def __init__(self, app) -> None:
        self.client = sign_in(app, RATER, "annotator")

    def prepare(self) -> dict[str, str]:
        """The form of the next picture, filled in."""
        page = self.client.get("/annotate").text.split('id="rating"')[1].split("</form>")[0]
        return dict(re.findall(r'name="(csrf|candidate|dimension|token)" value="([^"]*)"', page)) | {"answer": "3.5"}

    def save(self, form: dict[str, str]) -> None:
        assert self.client.post("/labels", data=form).status_code == 303

    def timed_after_saving(self, call: Callable[..., None], *given: Any) -> float:
        self.save(self.prepare())
        return timed(call, *given)


def count_audit(app) -> None:
    """What a page waits for when no audit is kept."""
    with app.state.studio.sessions() as session:
        measuring.measure_raters(session, rubric_in_force(session), fresh=True)


def measure(labels: int, rounds: int) -> dict[str, dict[str, float]]:
    rng = random.Random(0)
    found: dict[str, dict[str, float]] = {}

    def report(what: str, times: list[float]) -> None:
        found[what] = {"first": times[0], "median": statistics.median(times), "longest": max(times)}
        print(f"{what:40}" + "".join(f" {name} {ms:7.1f} ms" for name, ms in found[what].items()), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        settings = ProjectSettings(raters_per_item=RATERS)
        create.create_project(Path(folder, "project"), try_out.pictures(10), world_rubric(), settings)
        app = create_app(Project(Path(folder, "project")))
        fill(app, labels, rng)
        annotator = Annotator(app)
        forms = (annotator.prepare() for _ in range(rounds))
        report(SAVE, [timed(annotator.save, form) for form in forms])
        for role, pages in PAGES.items():
            client = annotator.client if role == "annotator" else sign_in(app, role, role)
            for page in pages:
                report(f"{role} {page}", [annotator.timed_after_saving(show, client, page) for _ in range(rounds)])
        report(AUDIT, [annotator.timed_after_saving(count_audit, app) for _ in range(rounds)])
        report(NEW_PICTURE, [timed(show, annotator.client, f"/pictures/{n}?width=160") for n in range(2, rounds + 2)])
        app.state.studio.engine.dispose()
    return found


def show(client: TestClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200, (page, answer.status_code)


def timed(call: Callable[..., None], *given: Any) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    call(*given)
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    found = measure(options.labels, options.rounds)
    print(versions())
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
