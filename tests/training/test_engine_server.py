"""Something else than a vLLM server at `vllm.server`, or one that answers wrongly: one clear error, at a bounded cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from zreward.common.errors import InputError
from zreward.sampling import server
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import Question, TokenRules
from zreward.sampling.server import ServerVllm

RULES = TokenRules(stop_id=9, banned=(5,), labels=(1, 2), budget=4)
QUESTION = Question([3, 4], [torch.zeros(3, 4, 4)])
MODELS = {"data": [{"id": "judge"}]}


def token(number: Any = 7, log_prob: Any = -0.5, **more: Any) -> dict[str, Any]:
    return {"token_id": number, "logprob": log_prob, "top_logprobs": []} | more


def answer(ids: Any, content: Any) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "logprobs": {"content": content}}]}


@contextmanager
def answering(found: Any, models: Any = MODELS, status: int = 200, **headers: str) -> Iterator[str]:
    """A server that answers every POST with `found`: bytes as they are, else JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, models)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._send(status, found)

        def _send(self, status: int, value: Any) -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in ({"content-type": "application/json"} | headers).items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def connected(url: str) -> ServerVllm:
    return ServerVllm(RULES, VllmOptions(server=url, max_sequences=2), on_cpu=False)


def sample(engine: ServerVllm):
    return engine.sample([QUESTION], 1.0, [0])


def score(engine: ServerVllm):
    return engine.score([QUESTION])


def test_what_vllm_answers_is_read():
    with answering(answer([7, 9], [token(7, -0.5), token(9, -0.25)])) as url:
        (sampled,) = sample(connected(url))
        assert sampled.trace.ids == (7, 9) and not sampled.trace.truncated and sampled.log_probs == [-0.5, -0.25]
    with answering(answer([2], [token(2, -0.5, top_logprobs=[token(1, -1.0), token(2, -0.5)])])) as url:
        assert score(connected(url)).tolist() == [[-1.0, -0.5]]


@pytest.mark.parametrize(
    ("ask", "found", "told"),
    [
        (sample, answer([7], [token(7, float("nan"))]), "NaN, which is no number"),
        (score, answer([1], [token(1, -1.0, top_logprobs=[token(2, float("nan"))])]), "NaN, which is no number"),
        (score, answer([1], [token(1, -1.0, top_logprobs=[token(2, float("-inf"))])]), "-Infinity, which is no number"),
        (score, answer([1], [token(1, -1.0, top_logprobs=[token(2, 0.5)])]), "0.5, expected a log-probability"),
        (score, answer([1], [token(1, -1.0)]), "no 2$"),
        (score, answer([1], []), "list index out of range"),
        (sample, answer([7], [token(7, "-1")]), "'-1', expected a log-probability"),
        (sample, answer([7], [token(7, None)]), "None, expected a log-probability"),
        (sample, answer(["7"], [token()]), "'7', expected the number of a token"),
        (sample, answer([-1], [token()]), "-1, expected the number of a token"),
        (sample, answer([10**12], [token()]), "expected the number of a token"),
        (sample, answer([], []), "0 tokens with 0 log-probabilities, where at most 4"),
        (sample, answer([7, 7], [token()]), "2 tokens with 1 log-probabilities"),
        (sample, answer([7] * 5, [token()] * 5), "5 tokens with 5 log-probabilities, where at most 4"),
        (sample, answer([7, 5], [token()] * 2), "token 5, which was forbidden"),
        (sample, {"choices": []}, "list index out of range"),
        (sample, {"error": "x"}, "no 'choices'"),
        (sample, [], "list indices"),
        (sample, b"<html>", "Expecting value"),
        (sample, b"[" * 100_000, "recursion"),
    ],
)
def test_an_answer_that_is_not_vllms(ask, found, told):
    with answering(found) as url:
        engine = connected(url)
        with pytest.raises(
            InputError, match=rf"vllm.server {url}/inference/v1/generate: the answer is not .*: .*{told}"
        ):
            ask(engine)
        engine.close()


@pytest.mark.parametrize(
    "models", [{}, {"data": []}, {"data": [{"id": 7}]}, {"data": [{"id": "a\x1b[2J"}]}, b"hello", []]
)
def test_a_list_of_models_that_is_none(models):
    with (
        answering({}, models) as url,
        pytest.raises(InputError, match=rf"{url}/v1/models: the answer is not that of a vLLM"),
    ):
        connected(url)


def test_messages_of_a_server_are_shortened_and_plain():
    with answering(b"\x1b[2Jno\nsuch " + b"x" * 50_000, status=404) as url:
        engine = connected(url)
        with pytest.raises(InputError, match=r"generate: status 404, \?\[2Jno such x+ \.\.\.; start it") as found:
            sample(engine)
        assert len(str(found.value)) < 600 and str(found.value).isprintable()


def test_an_answer_that_does_not_end(monkeypatch):
    monkeypatch.setattr(server, "_LARGEST", 1 << 20)
    with answering(b" " * (8 << 20)) as url:
        engine = connected(url)
        with pytest.raises(InputError, match="an answer of more than 1 MiB, or 1800 seconds"):
            sample(engine)


def test_a_compressed_answer_is_not_unpacked():
    with answering(b"\x1f\x8b\x08", **{"content-encoding": "gzip"}) as url, pytest.raises(InputError, match="is not"):
        sample(connected(url))


def test_a_server_that_went_away(tmp_path: Path):
    with answering({}) as url:
        engine = connected(url)
    for work in (lambda: sample(engine), lambda: engine.load_adapter(tmp_path), lambda: engine.load_weights(tmp_path)):
        with pytest.raises(InputError, match=rf"{url}/.*; is it running\?"):
            work()


def test_proxies_are_not_for_this_machine_and_passwords_not_for_addresses(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with answering({}) as url:
        assert connected(url).model == "judge"
    with pytest.raises(InputError, match="without user, query and #") as found:
        connected("http://me:secret@127.0.0.1:1")
    assert "secret" not in str(found.value)
