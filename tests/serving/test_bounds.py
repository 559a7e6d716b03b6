"""Every attack on a running server: refused with a reason in few bytes, or answered; and the server goes on answering."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
from collections import Counter
from urllib.parse import urlsplit

import httpx
import pytest
import torch
from starlette.responses import Response

from tests.serving import attacks
from tests.serving.running import png, running, text, wait_for
from tests.tiny import tiny_model
from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.serving.client import RewardClient, ServerError
from zreward.serving.lanes import model_lanes
from zreward.serving.limits import BODY, Gate
from zreward.serving.settings import Settings

PROMPT = "a red circle"
REFUSED = {
    "black pictures": (413, "4096 x 4096 becomes 4,096 tokens"),
    "strips": (413, "tokens of this model"),
    "long prompts": (413, "80,000 bytes; expected at most"),
    "empty items": (413, "bytes of JSON beside long strings|values in one request"),
    "deep JSON": (422, "nested too deep"),
    "junk base64": (413, "the request is larger than 20,000,000 bytes"),
    "JPEG of many scans": (400, "more than 64 scans"),
    "malformed": (422, "JSON|Input should|Field required|dictionary"),
    "pickles": (500, "pickle"),
    "pixels to decode": (413, "tokens of this model"),
}
ACCEPTED = ("many chunks", "full batches")


@pytest.fixture(scope="module")
def server(model):
    with running(model, allow_pickle=True, max_body=20_000_000) as url:
        yield url


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_is_refused_in_few_bytes(server, name):
    status, words = REFUSED[name]
    path, bodies = attacks.BODIES[name]()
    for body in bodies:
        connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        reply = answer.read()
        connection.close()
        assert answer.status == status, reply[:500]
        assert len(reply) < 2000
        assert re.search(words, reply.decode()), reply


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_dear_but_allowed_is_answered(server, name):
    path, bodies = attacks.BODIES[name]()
    for body in bodies:
        answer = httpx.post(server + path, content=body, headers={"Content-Type": "application/json"}, timeout=120)
        assert answer.status_code == 200, answer.text[:500]
        assert len(answer.json()["scores"]) == len(json.loads(body)["items"])


def connection(server: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server).port), 30)


def test_a_body_of_crumbs_is_cut_off(server):
    with connection(server) as one:
        one.sendall(attacks.head("/v1/score", "Transfer-Encoding: chunked") + b"\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            one.sendall(b"1\r\n \r\n" * 5_000_000)
    assert httpx.get(server + "/health").status_code == 200


def test_an_honest_chunked_body_is_read(server, pictures):
    body = json.dumps({"items": [{"prompt": PROMPT, "image": text(pictures[0])}]}, indent=1).encode()
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    answer = httpx.post(server + "/v1/score", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("stated", ["-1", "1e3", "0x10", "99999999999999999999", "5, 5000000000"])
def test_lengths_that_are_none_are_refused(server, stated):
    with connection(server) as one:
        one.sendall(attacks.head("/v1/score", f"Content-Length: {stated}") + b"\r\n{}")
        assert one.recv(100).split()[1] in (b"400", b"413")


def test_a_head_of_many_kilobytes_is_refused(server):
    with connection(server) as one:
        one.sendall(attacks.head() + b"X: " + b"y" * 20_000)
        assert b"400" in one.recv(100)


def test_answers_do_not_repeat_what_was_sent(server):
    large = "k" * 100_000
    item = {"prompt": PROMPT, "image": text(attacks.Image.new("RGB", (32, 32)))}
    for body in (
        {"items": [item], "dimensions": [large]},
        {"items": [item], "dimensions": ["x" * 190]},
        {"items": [item], large: 1},
        {"items": [item | {"prompt": [large]}]},
        {"items": large},
        {"items": [{}] * 5000},
        {"items": [item], **{f"key{n}": 1 for n in range(60)}},
        {"items": [item | {"image": "x://" + large}]},
    ):
        answer = httpx.post(server + "/v1/score", json=body)
        assert answer.status_code in (400, 413, 422), answer.text[:300]
        assert len(answer.text) < 2000 and large[:300] not in answer.text


def test_prompts_that_are_no_unicode_or_blank_are_refused(server, pictures):
    for prompt in ("\\ud800", " ", "\\u200b"):
        body = f'{{"items": [{{"prompt": "{prompt}", "image": "{text(pictures[0])}"}}]}}'
        answer = httpx.post(server + "/v1/score", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and "Traceback" not in answer.text
        assert answer.json()["detail"]


def test_large_bodies_share_a_bounded_memory():
    """Two bodies of 900 kB where 1 MB may be held: the second is told to come back; a small one always finds room."""
    held, gone = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:
        await Response(str(len(scope[BODY])))(scope, receive, send)

    async def unfinished() -> dict:
        if not held.is_set():
            held.set()
            return {"type": "http.request", "body": b" " * 899_000, "more_body": True}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def play() -> None:
        gate = Gate(app, max_body=10**6, max_buffered=10**6, token=None)
        headers = [(b"content-length", b"900000")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        first = asyncio.create_task(gate(scope, unfinished, None))
        await held.wait()
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            refused = await http.post("/", content=b" " * 900_000)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
            assert (await http.post("/", content=b" " * 1000)).text == "1000"
            gone.set()
            await first
            assert (await http.post("/", content=b" " * 900_000)).text == "900000"  # given back
        assert gate.free == 10**6

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_model_that_answers_nan_is_an_error_with_a_reason(pictures):
    broken = tiny_model().eval()
    with torch.no_grad():
        next(iter(broken.backbone.vision_tower.parameters())).fill_(float("nan"))
    with running(broken) as url:
        answer = httpx.post(url + "/v1/score", json={"items": [{"prompt": PROMPT, "image": text(pictures[0])}]})
        assert answer.status_code == 500 and "NaN" in answer.json()["detail"]
        with RewardClient(url) as client, pytest.raises(ServerError, match="failed .500.*NaN"):
            client.score(pictures[:1], PROMPT)
    lanes = model_lanes(broken, Settings())
    with pytest.raises(InputError, match="NaN"):
        lanes[0].warm_up()
    for lane in lanes:
        asyncio.run(lane.close())


def test_who_hangs_up_before_its_turn_is_not_scored(model, pictures, monkeypatch):
    """The slow lane is held; a request behind it hangs up; when the lane goes on, only the first is opened."""
    held, opened = threading.Event(), Counter()
    plain = RewardModel.decode

    def slowly(self, image):
        opened[image.size] += 1
        held.wait(30)
        return plain(self, image)

    monkeypatch.setattr(RewardModel, "decode", slowly)
    with running(model, max_batch=2) as url:

        def body(side: int) -> bytes:
            return attacks.items(png(pictures[0].resize((side, side))), 2, "red " * 300)

        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(httpx.post(url + "/v1/score", json=json.loads(body(40)), timeout=60))
            )
            for _ in range(2)  # they fill the room
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: "zreward_running_requests 2.0" in httpx.get(url + "/metrics").text)
        gone = connection(url)
        gone.sendall(attacks.head("/v1/score", f"Content-Length: {len(body(48))}") + b"\r\n" + body(48))
        wait_for(lambda: "zreward_waiting_images 2.0" in httpx.get(url + "/metrics").text)
        gone.close()
        wait_for(
            lambda: "zreward_waiting_images 0.0" in httpx.get(url + "/metrics").text
        )  # it leaves the queue at once
        held.set()
        for thread in threads:
            thread.join()
        wait_for(lambda: "zreward_running_requests 0.0" in httpx.get(url + "/metrics").text)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert opened == {(40, 40): 4}
