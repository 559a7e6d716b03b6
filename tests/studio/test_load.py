"""Many requests at once, long ones, and databases that hold nothing."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from zreward.common.errors import InputError
from zreward.studio.app import create_app
from zreward.studio.routes.forms import SHORT
from zreward.studio.storage.database import CONNECTIONS
from zreward.studio.storage.project import Project


def test_more_requests_at_once_than_connections_are_all_answered(app, signed_in):
    client = signed_in("annotator")
    pages = ["/annotate", "/rubric", "/pictures/1?width=160", "/pictures/999999"] * (3 * CONNECTIONS)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://testserver", cookies=dict(client.cookies)
        ) as many:
            answers = await asyncio.gather(*(many.get(page) for page in pages))
            return [answer.status_code for answer in answers]

    assert Counter(asyncio.run(ask())) == {200: 9 * CONNECTIONS, 404: 3 * CONNECTIONS}
    assert app.state.studio.engine.pool.checkedout() == 0


@pytest.mark.parametrize("content", [b"x" * (SHORT + 1), iter([b"name=ann&", b"password=x"])])
def test_long_forms_and_such_of_unknown_length_are_refused(signed_in, content):
    client = signed_in("annotator")
    answer = client.post("/labels", content=content, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 413 and f"at most {SHORT} bytes" in answer.text
    assert "Content-Security-Policy" in answer.headers


def test_an_empty_database_is_not_served(project, tmp_path):
    with pytest.raises(InputError, match=r"holds no project; make one in it with `zreward studio init"):
        create_app(Project(project.folder, f"sqlite:///{tmp_path / 'empty.sqlite'}"))
