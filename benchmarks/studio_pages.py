"""How long the studio's pages take with many labels in SQLite.

    python benchmarks/studio_pages.py [--json FILE] [--labels 100000] [--rounds 15]

A project of the built-in world's prompts with as many random labels as asked for, by twelve annotators. The application
runs in this process, without a network. Prints the median milliseconds of every page; the JSON file maps pages to them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import insert, select

from zreward.runs import versions
from zreward.studio import accounts, create
from zreward.studio.app import create_app
from zreward.studio.project import Project, ProjectSettings
from zreward.studio.storage import Candidate, Gold, Label, Prompt, Repetition, User
from zreward.world.base_models import world_rubric

ANNOTATORS, RATERS, CANDIDATES = 12, 3, 4
PASSWORD = "a password of the benchmark"
PAGES = {
    "annotator": ("/annotate", "/annotate?dimension=realism", "/adjust", "/studies", "/rubric", "/pictures/1?width=320"),
    "quality": (
        "/quality", "/quality?state=accepted", "/quality?order=oldest", "/quality/annotators", "/quality/hidden",
        "/quality/export", "/rubric",
    ),
    "administrator": ("/people",),
}  # fmt: skip


def fill(app, labels: int, rng: random.Random) -> None:
    """As many labels as asked for, on copies of the project's pictures."""
    names = world_rubric().dimension_names
    pictures = -(-labels // (RATERS * len(names)))
    with app.state.studio.sessions() as session:
        images = session.scalars(select(Candidate.image)).all()
        people = [User(name=f"annotator {n}", role="annotator") for n in range(ANNOTATORS)]
        session.add_all(people)
        for number in range(pictures // CANDIDATES + 1):
            prompt = Prompt(text=f"prompt {number}", group=f"filled {number}")
            for n in range(CANDIDATES):
                prompt.candidates.append(Candidate(key=f"filled-{number}-{n}", image=rng.choice(images)))
            session.add(prompt)
        session.flush()
        found = list(session.scalars(select(Candidate.id)))
        raters = [user.id for user in people]
        rows = [
            {"user_id": user, "candidate_id": candidate, "dimension": name, "score": 1 + 0.5 * rng.randrange(9),
             "state": rng.choice(["submitted", "accepted"]), "seconds": rng.uniform(2, 9), "rubric_version": "1"}
            for candidate in found for name in names for user in rng.sample(raters, RATERS)
        ][:labels]  # fmt: skip
        session.execute(insert(Label), rows)
        session.add_all(Gold(candidate_id=n, dimension=names[0], score=3.0) for n in rng.sample(found, 100))
        session.add_all(Repetition(candidate_id=n, dimension=names[0]) for n in rng.sample(found, 100))
        session.commit()


def sign_in(app, name: str, role: str) -> TestClient:
    with app.state.studio.sessions() as session:
        user, _ = accounts.invite(session, name, role)
        accounts.accept(session, user, PASSWORD)
    client = TestClient(app, follow_redirects=False)
    csrf = re.search(r'<meta name="csrf" content="(\w+)">', client.get("/sign-in").text)
    assert csrf is not None
    answer = client.post("/sign-in", data={"csrf": csrf[1], "name": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


def measure(labels: int, rounds: int) -> dict[str, float]:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        settings = ProjectSettings(raters_per_item=RATERS)
        create.init(Path(folder, "project"), create.from_world(10), world_rubric(), settings)
        app = create_app(Project(Path(folder, "project")))
        fill(app, labels, rng)
        found = {}
        for role, pages in PAGES.items():
            client = sign_in(app, "annotator 0" if role == "annotator" else role, role)
            for page in pages:
                times = []
                for _ in range(rounds):
                    begin = time.perf_counter()
                    answer = client.get(page)
                    times.append(1000 * (time.perf_counter() - begin))
                    assert answer.status_code == 200, (page, answer.status_code)
                found[f"{role} {page}"] = statistics.median(times)
                print(f"{role:14} {page:32} {found[f'{role} {page}']:7.1f} ms", flush=True)
        app.state.studio.engine.dispose()
    return found


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
