"""Ten thousand requests, good ones and bad ones, from clients that sometimes vanish: every accepted one is answered, rightly."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from tests.serving.running import text

REQUESTS, CLIENTS = 10_000, 32
PROMPTS = ["a red circle", "a small blue cross", "a large green square left of a small red circle"]


@pytest.fixture
def process(model, tmp_path):
    """A server in a process of its own, so that its memory can be seen: (url, pid, port)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "zreward.cli", "serve", str(tmp_path / "model"), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(url + "/health")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    yield url, server, port
    server.terminate()
    assert server.wait(60) in (0, -15)
    errors = server.stderr.read()
    assert "Traceback" not in errors, errors[-2000:]


def resident(pid: int) -> float:
    """MiB"""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def vanish(port: int, body: bytes, after: int) -> None:
    """Send the head and `after` bytes of a request, then hang up."""
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[:after])


@pytest.mark.slow
def test_a_storm(process, model, pictures):
    url, server, port = process
    expected = {
        (n, p): model.score([picture], prompt).probs[0]
        for n, picture in enumerate(pictures)
        for p, prompt in enumerate(PROMPTS)
    }
    encoded, names = [text(picture) for picture in pictures], model.rubric.dimension_names
    large = text(pictures[0].resize((5000, 4000)))
    kinds = ("good",) * 6 + ("vanish", "malformed", "truncated", "oversized")
    seen: Counter = Counter()

    def one(number: int) -> None:
        rng = random.Random(number)
        n, p, kind = rng.randrange(len(pictures)), rng.randrange(len(PROMPTS)), rng.choice(kinds)
        item = {"prompt": PROMPTS[p], "image": encoded[n]}
        if kind == "vanish":
            body = json.dumps({"items": [item]}).encode()
            vanish(port, body, rng.choice([0, len(body) // 2, len(body)]))
            return
        if kind == "malformed":
            answer = http.post("/v1/score", content=rng.choice([b"{", b"\xff\xfe", b"[]", b'{"items": 3}']))
            assert answer.status_code == 422, answer.text
        elif kind == "truncated":
            item["image"] = text(pictures[n])[: 4 * rng.randrange(5, 200)]
            answer = http.post("/v1/score", json={"items": [item]})
            assert answer.status_code in (400, 200), answer.text
        elif kind == "oversized":
            if number % 50:
                item["image"] = "A" * 5000
            else:
                item["image"] = large
            answer = http.post("/v1/score", json={"items": [item]})
            assert answer.status_code == 400, answer.text
        else:
            answer = http.post("/v1/score", json={"items": [item]})
            assert answer.status_code == 200, answer.text
            got = torch.tensor([answer.json()["scores"][0][name]["probs"] for name in names])
            assert torch.allclose(got, expected[n, p], atol=1e-4)
        seen[kind, answer.status_code] += 1

    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    with httpx.Client(base_url=url, timeout=60, limits=limits) as http, ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(one, range(REQUESTS // 5)))
        before = resident(server.pid)
        list(threads.map(one, range(REQUESTS // 5, REQUESTS)))
    assert httpx.get(url + "/health").json()["waiting"] == 0
    assert seen["good", 200] > REQUESTS / 2
    assert resident(server.pid) < before * 1.1 + 20
