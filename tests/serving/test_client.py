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

from tests.ports import held_port, number
from zreward.common.errors import InputError
from zreward.serving.client import RewardClient, ServerError

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


def test_what_is_wrong_with_a_request_is_not_tried_again(waits):
    refused = (400, {"detail": "image 0 is a URL"}, {})
    with (
        answering(refused) as url,
        RewardClient(url) as client,
        pytest.raises(InputError, match=r"refused the request \(400\): image 0 is a URL"),
    ):
        client.score([b"x"], "a red circle")
    assert waits == []


@pytest.fixture
def refusing():
    """An address at which nobody listens."""
    with held_port() as held:
        yield f"127.0.0.1:{number(held)}"


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_server_that_is_not_there_is_named_at_once(waits, refusing, scheme):
    where = refusing
    with RewardClient(scheme + where) as client:
        for ask in (
            lambda: client.score([b"x"], "a red circle"),
            lambda: asyncio.run(client.ascore([b"x"], "a red circle")),
            client.health,
        ):
            with pytest.raises(ServerError, match=f"http://{where}: .*refused.*|{where}: .*is the server running"):
                ask()
    assert waits == []


@pytest.mark.parametrize("url", ["ftp://here", "http://", "", "://", "http://a b", "http://here:port", 7])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="expected .* http://127"):
        RewardClient(url)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_this_machine_is_never_asked_for_through_a_proxy(monkeypatch, refusing, name):
    for old in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(old, raising=False)
    monkeypatch.setenv(name, f"http://{refusing}")
    with answering(GOOD, GOOD) as url, RewardClient(url) as client:
        assert len(client.score([b"x"], "a red circle")) == 1
        assert len(asyncio.run(client.ascore([b"x"], "a red circle"))) == 1


def test_a_proxy_that_fails_is_named_without_its_password(monkeypatch, refusing):
    where = refusing
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:secret@{where}")
    with (
        RewardClient("http://192.0.2.1:8000") as client,
        pytest.raises(ServerError, match=f"the proxy {where}") as raised,
    ):
        client.score([b"x"], "a red circle")
    assert "NO_PROXY" in str(raised.value) and "secret" not in str(raised.value)


def test_a_request_that_is_too_large_is_sent_in_halves_and_a_single_item_is_refused():
    large = (413, {"detail": "9 images in one request; send at most 1"}, {})
    with answering(large, GOOD, GOOD, large) as url, RewardClient(url) as client:
        assert len(client.score([b"x", b"y"], "a red circle")) == 2
        with pytest.raises(InputError, match=r"\(413\): 9 images"):
            client.score([b"x"], "a red circle")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {"detail": "the model answers NaN"}, {}), r"failed \(500\): the model answers NaN"),
        ((200, [1], {}), "no JSON object"),
        ((200, {"scores": []}, {}), "holds no scores"),
        (
            (200, {"scores": [{"realism": {"probs": [float("nan"), 1]}}], "scale": {"bins": [1, 2]}}, {}),
            "holds no scores",
        ),
        ((301, {"detail": "elsewhere"}, {"location": "/x"}), r"refused the request \(301\)"),
        ((400, {"detail": "x" * 10**6}, {}), r"\(400\): x{1000}$"),
    ],
)
def test_every_answer_that_is_no_score_ends_in_one_message(waits, answer, words):
    with answering(answer) as url, RewardClient(url) as client, pytest.raises(InputError, match=words):
        client.score([b"x"], "a red circle")
    assert waits == []


@pytest.mark.parametrize("prompt", ["caf\udce9", None, b"x"])
def test_prompts_that_are_no_text_are_refused_before_anything_is_sent(refusing, prompt):
    with RewardClient(refusing) as client, pytest.raises(InputError, match="prompt 1 is"):
        client.score([b"x", b"y"], ["fine", prompt])


def test_a_token_that_no_header_carries_is_refused():
    with pytest.raises(InputError, match="line ends"):
        RewardClient("localhost:8000", token="secret\n")
