"""A small project, and clients that are signed in to its studio."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

pytest.importorskip("sqlalchemy", reason="pip install 'zreward[studio]'")

from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from zreward.rubric import Rubric
from zreward.studio.app import create_app
from zreward.studio.domain import accounts
from zreward.studio.domain.rubric_versions import add_version
from zreward.studio.storage.database import connect, sessions, upgrade_tables
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import CandidatePicture, PromptGroup

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch):
    """The real hash costs 64 MiB and a tenth of a second for every person that a test signs in."""
    monkeypatch.setattr(accounts, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def project(tmp_path) -> Project:
    """Three prompts of four pictures each, the default rubric, two raters an item."""
    folder = tmp_path / "project"
    (folder / "images").mkdir(parents=True)
    write_settings(folder, ProjectSettings(name="Try-out", raters_per_item=2))
    project = Project(folder)
    engine = connect(project.database_url)
    upgrade_tables(engine)
    rng = np.random.default_rng(0)
    with sessions(engine)() as session:
        add_version(session, Rubric.default())
        for text in ("a red circle", "a blue cross <b>bold</b>", "two cats"):
            prompt = PromptGroup(text=text, group=text)
            session.add(prompt)
            session.flush()
            for n in range(4):
                name = f"images/{prompt.id}-{n}.png"
                Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / name)
                session.add(CandidatePicture(prompt_id=prompt.id, key=f"{prompt.id}-{n}", image=name))
        session.commit()
    engine.dispose()
    return project


@pytest.fixture
def app(project):
    made = create_app(project)
    yield made
    made.state.studio.engine.dispose()


@pytest.fixture
def session(app):
    with app.state.studio.sessions() as opened:
        yield opened


@pytest.fixture
def signed_in(app, session):
    """signed_in("annotator", "ann") -> a client with that person's session; its posts carry the CSRF token."""

    def make(role: str, name: str | None = None) -> TestClient:
        _, token = accounts.invite(session, name or role, role)
        client = TestClient(app, follow_redirects=False)
        csrf = read_csrf(client.get(f"/invitation/{token}").text)
        form = {"csrf": csrf, "password": PASSWORD, "again": PASSWORD}
        assert client.post(f"/invitation/{token}", data=form).status_code == 303
        client.headers["x-csrf-token"] = read_csrf(client.get("/rubric").text)
        return client

    return make


def read_csrf(page: str) -> str:
    return re.search(r'<meta name="csrf" content="([0-9a-f]+)">', page)[1]


@pytest.fixture
def draw_folder():
    """draw_folder(folder, colour): plain pictures of some prompts and seeds, whose files tell on them in every way."""

    def make(folder: Path, colour: str, prompts=("a cube", "a ball"), seeds=(0, 1), tags=(), reverse=False) -> Path:
        folder.mkdir(parents=True)
        rows = []
        for number, prompt in enumerate(prompts):
            for seed in seeds:
                name = f"{colour}-{number}-{seed}.png"
                secret = PngImagePlugin.PngInfo()
                secret.add_text("Software", f"made by {colour}")
                Image.new("RGB", (8, 8), colour).save(folder / name, pnginfo=secret, dpi=(72, 72))
                rows.append({"image": name, "prompt": prompt, "seed": seed, "tags": list(tags[number : number + 1])})
        rows = rows[::-1] if reverse else rows
        (folder / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make
