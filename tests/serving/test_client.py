"""What the client does when a server does not answer at once: waits as told, or longer and longer, then gives up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tenacity import nap

from zreward.client import RewardClient, ServerError
from zreward.errors import InputError

REPLY = {"scores": [{"realism": {"probs": [0.25, 0.75]}}], "scale": {"bins": [1, 2]}}
BUSY = (429, {"detail": "the queue is full"}, {"retry-after": "0"})
DOWN = (503, {"detail": "shutting down"}, {})
GOOD = (200, REPLY, {})


@contextmanager
def answering(*answers: tuple[int, dict, dict]) -> Iterator[str]:
    """The URL of a server that gives these answers, one after the other."""
    left = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, reply, headers = next(left)
            body = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that the client wanted to sleep; it does not."""
    found: list[float] = []
    monkeypatch.setattr(nap.time, "sleep", found.append)
    return found


def test_waits_are_what_the_server_asks_for_or_grow(waits):
    asked = (429, {"detail": "the queue is full"}, {"retry-after": "7"})
    with answering(DOWN, DOWN, asked, DOWN, GOOD) as url, RewardClient(url) as client:
        assert client.score([b"x"], "a red circle").probs.tolist() == [[[0.25, 0.75]]]
    assert waits == [pytest.approx(0.5, rel=0.2), pytest.approx(1, rel=0.2), 7, pytest.approx(4, rel=0.2)]


@pytest.mark.parametrize(
    ("stated", "waited"), [("99999999999", 600), ("\u00b2", 0.5), ("-5", 0.5), ("soon", 0.5)], ids=str
)
def test_a_server_cannot_make_a_client_sleep_for_ever_or_fail(waits, stated, waited):
    with answering((503, {}, {"retry-after": stated}), GOOD) as url, RewardClient(url) as client:
        client.score([b"x"], "a red circle")
    assert waits == [pytest.approx(waited, rel=0.2 if waited < 1 else 0)]


def test_the_asynchronous_call_tries_again_too_and_gives_up():
    with answering(BUSY, BUSY, GOOD) as url, RewardClient(url) as client:
        scores = asyncio.run(client.ascore([b"x"], "a red circle"))
    assert scores.probs.tolist() == [[[0.25, 0.75]]]
    with (
        answering(BUSY, BUSY) as url,
        RewardClient(url, retries=1) as client,
        pytest.raises(ServerError, match=r"no answer after 2 attempts; the last was: 429 the queue is full"),
    ):
        asyncio.run(client.ascore([b"x"], "a red circle"))


def test_a_client_gives_up_with_the_last_reason(waits):
    with (
        answering(BUSY, DOWN) as url,
        RewardClient(url, retries=1) as client,
        pytest.raises(ServerError, match=r"no answer after 2 attempts; the last was: 503 shutting down"),
    ):
        client.score([b"x"], "a red circle")
    assert waits == [0]
    with pytest.raises(ServerError, match="no answer after 1 attempts.*ConnectError"):
        RewardClient("http://127.0.0.1:9", retries=0).score([b"x"], "a red circle")


def test_what_is_wrong_with_a_request_is_not_tried_again(waits):
    refused = (400, {"detail": "image 0 is a URL"}, {})
    with (
        answering(refused) as url,
        RewardClient(url) as client,
        pytest.raises(InputError, match=r"refused the request \(400\): image 0 is a URL"),
    ):
        client.score([b"x"], "a red circle")
    assert waits == []
