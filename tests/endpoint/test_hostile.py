"""Servers that fail, lie, stall or are something else: one clear error each, at a bounded cost, and retries where these help."""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.endpoint.server import Served, answer, serving
from tests.tiny import COMPARISON, noise_pictures, tiny_rubric
from zreward.common import http
from zreward.common.errors import InputError
from zreward.distribution import ScoreScale
from zreward.endpoint import client, connection
from zreward.endpoint.settings import EndpointSettings, read_settings
from zreward.endpoint.teacher import EndpointTeacher
from zreward.models.pairwise import comparing
from zreward.serving.client import RewardClient

PICTURES = noise_pictures(1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Waits between attempts are a hundredth of what they are."""
    monkeypatch.setattr(http, "_growing", lambda state: 0.005 * 2**state.attempt_number)


def connect(url: str, folder: str, **settings) -> EndpointTeacher:
    chosen = {"retries": 0, "answer": "continued", "top_logprobs": 500} | settings
    return EndpointTeacher.connect(EndpointSettings(url, "judge", folder, **chosen))


def ask(teacher: EndpointTeacher):
    return teacher.score(PICTURES, "a red circle", ["realism"])


def changed(served: Served, *path, to):
    """An answer that is right but for one place."""

    def respond(body: dict) -> Response:
        whole = copy.deepcopy(answer(served, body))
        place = whole
        for key in path[:-1]:
            place = place[key]
        if to is KeyError:
            del place[path[-1]]
        else:
            place[path[-1]] = to
        return Response(json.dumps(whole), media_type="application/json")

    return respond


CHOICE = ("choices", 0)
TOKEN = (*CHOICE, "logprobs", "content", 0)


@pytest.mark.parametrize(
    ("path", "to", "told"),
    [
        ((*TOKEN, "top_logprobs", 0, "logprob"), float("nan"), "NaN is no number of JSON"),
        ((*TOKEN, "top_logprobs", 0, "logprob"), float("-inf"), "-Infinity is no number of JSON"),
        ((*TOKEN, "top_logprobs", 0, "logprob"), 1.5, "logprob is 1.5, expected a number of at most 0"),
        ((*TOKEN, "top_logprobs", 0, "logprob"), "-1", "logprob is '-1', expected a number of at most 0"),
        ((*TOKEN, "top_logprobs", 0, "logprob"), None, "logprob is None"),
        ((*TOKEN, "top_logprobs", 0, "logprob"), 10**400, "not JSON|logprob is"),
        ((*TOKEN, "top_logprobs", 0, "token"), 7, "token is 7, expected a str"),
        ((*TOKEN, "top_logprobs", 0), "x", "token is None"),
        ((*TOKEN, "top_logprobs"), [], "top_logprobs is empty; zreward needs a server that lists"),
        ((*TOKEN, "top_logprobs"), KeyError, "top_logprobs is None, expected a list"),
        ((*CHOICE, "logprobs", "content"), "x", "logprobs.content is 'x', expected a list"),
        ((*CHOICE, "logprobs"), None, "no log-probabilities .* server and a model that return logprobs"),
        ((*CHOICE, "logprobs"), KeyError, "no log-probabilities"),
        ((*CHOICE, "message"), KeyError, "message is None, expected a dict"),
        ((*CHOICE, "message"), {"content": 7}, "the message holds 7, expected a text"),
        ((*CHOICE, "message", "refusal"), "I cannot", "the model refuses to answer: 'I cannot'"),
        (("choices",), [], r"choices is \[\], expected a list with an answer"),
        (("choices",), KeyError, "choices is None, expected a list"),
        (("usage",), {"prompt_tokens": -1}, "usage.prompt_tokens is -1, expected a number of tokens"),
        (("usage",), {"prompt_tokens": True}, "usage.prompt_tokens is True"),
        (("usage",), "many", "usage is 'many', expected an object"),
    ],
)
def test_an_answer_that_is_wrong_in_one_place(model, folder, path, to, told):
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder)
        served.mood.append(changed(served, *path, to=to))
        with pytest.raises(InputError, match=told) as found:
            ask(teacher)
        assert "item 0, dimension 'realism'" in str(found.value)
        assert len(ask(teacher)) == 1  # the next one is right


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        (
            PlainTextResponse("<html>hello</html>"),
            "the answer is not JSON .*; is this the address of an OpenAI-compatible API",
        ),
        (PlainTextResponse("[1]"), "a JSON list, expected an object"),
        (PlainTextResponse("[" * 200_000), "not JSON"),
        (PlainTextResponse(""), "not JSON"),
        (PlainTextResponse("{}", headers={"content-encoding": "br"}), "a compressed answer"),
        (JSONResponse({"error": "no"}, 400), "the server refused the request: 400 no"),
        (JSONResponse({"error": {"message": "x" * 10_000}}, 422), r"refused the request: 422 x{100,400} \.\.\."),
        (
            PlainTextResponse("", 307, {"location": "http://elsewhere"}),
            "redirects to http://elsewhere; name that address",
        ),
        (JSONResponse({"error": {"message": "bad key"}}, 401), "401 bad key; put the key into .* ZREWARD_ENDPOINT_KEY"),
        (PlainTextResponse("gone", 404), "404 gone; is the address right"),
        (PlainTextResponse("no", 405), "405 no; is the address right"),
        (PlainTextResponse("no", 501), "501 no; is the address right"),
        (JSONResponse({"detail": "\x1b[2Jgone\n\x07"}, 400), r"400 \?\[2Jgone \?$"),
    ],
)
def test_another_kind_of_answer(model, folder, mood, told):
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder, retries=2)
        served.mood.append(mood)
        begun = len(served.asked)
        with pytest.raises(InputError, match=told):
            ask(teacher)
        assert len(served.asked) == begun + 1  # not tried again


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_what_passes_is_tried_again(model, folder, status):
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder, retries=2)
        before, begun = ask(teacher).probs, len(served.asked)
        served.mood += [JSONResponse({"error": {"message": "busy"}}, status)] * 2
        assert ask(teacher).probs.equal(before) and len(served.asked) == begun + 3
        assert teacher.connection.client.usage.retries == 2
        served.mood += [JSONResponse({"error": {"message": "busy"}}, status)] * 3
        with pytest.raises(InputError, match=f"no answer after 3 attempts; the last was: {status} busy"):
            ask(teacher)


def test_the_wait_that_a_server_names_is_kept(model, folder):
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder, retries=1)
        served.mood.append(JSONResponse({}, 429, {"retry-after": "1"}))
        begin = time.monotonic()
        ask(teacher)
        assert 1 <= time.monotonic() - begin < 30


def test_huge_answers_are_not_read_to_their_end(model, folder, monkeypatch):
    monkeypatch.setattr(client, "_LARGEST", 1 << 20)
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            sent.append(1)
            yield b"x" * 65536

    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder)
        served.mood.append(StreamingResponse(endless()))
        with pytest.raises(InputError, match="an answer of more than 1 MiB"):
            ask(teacher)
    assert len(sent) < 5_000


def test_slow_answers_end_at_the_time_limit_though_something_always_comes(model, folder):
    def drops() -> Iterator[bytes]:
        for _ in range(600):
            time.sleep(0.1)
            yield b" "

    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder, timeout=1.0)
        served.mood.append(StreamingResponse(drops()))
        begin = time.monotonic()
        with pytest.raises(InputError, match=r"no whole answer in 1 s; give it more than 1 s \(timeout\)"):
            ask(teacher)
        assert time.monotonic() - begin < 20


@contextmanager
def cut_off(count: list[int]) -> Iterator[str]:
    """A server that closes every connection in the middle of its answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                count.append(1)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"choices"')

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_connections_that_close_in_the_middle(model, folder, monkeypatch):
    count: list[int] = []
    with cut_off(count) as url:
        asked = client.EndpointClient(EndpointSettings(url, retries=2))
        with pytest.raises(InputError, match="no answer after 3 attempts; the last was: (RemoteProtocol|Read)Error"):
            asked.complete({})
        assert len(count) == 3
        with pytest.raises(InputError, match="is the server running"):
            asked.models()


def test_an_error_names_the_item_by_its_place_in_all_windows(model, folder):
    with serving(model, most=500) as (url, served):
        windows = connect(url, folder).score_windows(
            [(picture,) for picture in noise_pictures(3)], ["x"] * 3, ("realism",), 2
        )
        assert len(next(windows)) == 2
        served.mood.append(PlainTextResponse("no"))
        with pytest.raises(InputError, match="^item 2, dimension 'realism'"):
            next(windows)


def test_the_first_error_ends_the_others(model, folder):
    with serving(model, most=500, pause=0.02) as (url, served):
        teacher = connect(url, folder, concurrency=2)
        served.mood.append(PlainTextResponse("no"))
        begun = len(served.asked)
        with pytest.raises(InputError, match="not JSON"):
            teacher.score(noise_pictures(50), "a red circle")
        assert len(served.asked) - begun < 20


# Found out before the work begins.


def test_a_server_that_is_not_there(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=rf"http://127.0.0.1:{port}/v1: .*; is the server running"):
        connect(f"http://127.0.0.1:{port}/v1", folder)


def test_a_model_that_is_not_there(model, folder):
    with (
        serving(model) as (url, _),
        pytest.raises(InputError, match=r"has no model 'jugde'; it has judge$"),
    ):
        EndpointTeacher.connect(f"endpoint:{url}#jugde")


def test_no_logprobs_are_found_out_with_the_first_question(model, folder):
    with serving(model) as (url, served):
        served.mood += [changed(served, *CHOICE, "logprobs", to=None)] * 9
        with pytest.raises(InputError, match=r"model 'judge': no log-probabilities"):
            connect(url, folder, answer="auto")
        assert len(served.asked) == 1


def test_labels_that_begin_one_another(model, tmp_path, folder):
    replace(tiny_rubric(), scale=ScoreScale(1, 5.5, 0.5), labels=tuple(map(str, range(1, 11)))).to_yaml(
        tmp_path / "r.yaml"
    )
    with pytest.raises(InputError, match="'1' could be the beginning of '10'"):
        EndpointTeacher.connect(EndpointSettings("http://127.0.0.1:1/v1", rubric=str(tmp_path / "r.yaml")))


def test_a_rubric_that_is_not_the_checkpoints(folder, tmp_path):
    own, place = tiny_rubric(), tmp_path / "r.yaml"
    replace(own, dimensions=own.dimensions[:1]).to_yaml(place)
    settings = EndpointSettings("http://127.0.0.1:1/v1", checkpoint=folder, rubric=str(place), retries=0)
    with pytest.raises(InputError, match="r.yaml is another rubric than that of .*; leave one out"):
        EndpointTeacher.connect(settings)
    own.to_yaml(place)
    with pytest.raises(InputError, match="is the server running"):  # the same one twice is fine
        EndpointTeacher.connect(settings)


def test_a_model_that_compares_two_pictures(model, tmp_path):
    comparing(model, COMPARISON).save_pretrained(tmp_path / "pair")
    with pytest.raises(InputError, match="compares with a reference picture, .*; name a checkpoint that scores single"):
        EndpointTeacher.connect(EndpointSettings("http://127.0.0.1:1/v1", checkpoint=str(tmp_path / "pair")))


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret"])
def test_keys_do_not_belong_into_addresses(url):
    with pytest.raises(InputError, match="environment variable ZREWARD_ENDPOINT_KEY") as found:
        EndpointTeacher.connect(f"endpoint:{url}#judge")
    assert "secret" not in str(found.value)


def test_the_key_is_sent_and_told_to_nobody_else(model, folder, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder, api_key_variable="MY_KEY")
        assert {each["authorization"] for each in served.headers} == {"Bearer sk-very-secret"}
        for status in (401, 400):
            served.mood.append(JSONResponse({"error": {"message": "bad key sk-very-secret"}}, status))
            with pytest.raises(InputError, match=r"bad key \*\*\*") as found:
                ask(teacher)
            assert "secret" not in str(found.value)
        assert "secret" not in json.dumps(teacher.fingerprint()) + teacher.report()
        assert "authorization" not in connect(url, folder).connection.client._http.headers
        for start in (0, 60, 78, 280, 285, 290):  # where messages are cut, too
            for mood in (
                JSONResponse({"error": {"message": "x" * start + "sk-very-secret"}}, 400),
                PlainTextResponse("x" * start + "sk-very-secret"),
                PlainTextResponse("", 307, {"location": f"http://{'x' * (start % 80)}/sk-very-secret"}),
            ):
                served.mood.append(mood)
                with pytest.raises(InputError) as found:
                    ask(teacher)
                assert "sk-" not in str(found.value), str(found.value)
    monkeypatch.setenv("MY_KEY", "two words")
    with pytest.raises(InputError, match="spaces"):
        connect(url, folder, api_key_variable="MY_KEY")


def test_half_a_character_in_a_trace(model, folder):
    """Where the budget cuts an emoji in two, some servers answer half a surrogate pair, which no file and no request holds."""
    with serving(model, most=500) as (url, served):
        teacher = connect(url, folder)
        served.mood.append(changed(served, *CHOICE, "message", to={"content": "nice \ud83d\ude00, \ud83d"}))
        (judged,) = teacher.judge(PICTURES, "a red circle", dimensions=["realism"])
        assert judged.traces == {"realism": ["nice \U0001f600, \ufffd"]}


@pytest.mark.parametrize("names", [["a\x1b[2J"], ["a\nb", "judge"], ["\ud800"]])
def test_names_of_models_that_no_terminal_should_show(model, folder, names):
    listed = {"data": [{"id": name} for name in names]}
    client = SimpleNamespace(url="http://u", settings=EndpointSettings("http://u"), models=lambda: listed)
    with pytest.raises(InputError, match="a model is called '.*', expected a name without control characters") as found:
        connection._find_model(client)
    assert str(found.value).isprintable()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout": 1e300}, "timeout 1e[+]300; expected 0 or more, and seconds above 0, at most 1,000,000"),
        ({"timeout": float("nan")}, "timeout nan; expected"),
        ({"concurrency": 10**6}, "concurrency is 1,000,000, expected at most 1,024"),
        ({"extra": {"top_k": float("nan")}}, "extra is .*, which is no JSON"),
        ({"extra": {"stop_word": "\ud800"}}, "extra is .*, which is no JSON"),
        ({"extra": {"x": object()}}, "extra is .*, which is no JSON"),
    ],
)
def test_settings_that_no_request_can_follow(settings, told):
    with pytest.raises(InputError, match=told):
        EndpointSettings("http://127.0.0.1:1/v1", **settings)


@pytest.mark.parametrize("url", ["http://x/\ud800", "http://xn--/v1", f"http://{'a' * 64}/v1"])
def test_addresses_that_no_name_server_knows(url):
    for client_of in (lambda: EndpointTeacher.connect(EndpointSettings(url)), lambda: RewardClient(url)):
        with pytest.raises(InputError, match="expected (an address such as|one such as) http://127.0.0.1:8000"):
            client_of()


@pytest.mark.parametrize(("name", "value"), [("HTTP_PROXY", "foo://bar"), ("ALL_PROXY", "socks5://x:1")])
def test_proxies_that_cannot_be_used(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    for client_of in (client.EndpointClient, lambda settings: RewardClient(settings.url)):
        with pytest.raises(InputError, match=f"{name}.* of the environment: .*; correct or unset it"):
            client_of(EndpointSettings("http://judge.example/v1"))
    with pytest.raises(InputError, match="timeout inf; expected"):
        RewardClient("http://127.0.0.1:1", timeout=float("inf"))


def test_settings_files(tmp_path, folder):
    file = tmp_path / "teacher.yaml"
    file.write_text(f"url: http://127.0.0.1:1/v1\nmodel: judge\ncheckpoint: {folder}\nextra: {{top_k: -1}}\n")
    assert read_settings(f"endpoint:{file}").extra == {"top_k": -1}
    for text, told in (
        ("url: x\nmodle: y", "unknown key modle; did you mean model"),
        ("model: y", "url is missing"),
        ("url: x\nextra: {messages: []}", "extra holds messages, which zreward sets itself"),
        ("url: x\nconcurrency: 0", "concurrency is 0, expected at least 1"),
        ("url: x\ntimeout: 0", "seconds above 0"),
        ("url: x\nanswer: guess", "answer is 'guess', expected one of auto, exported, continued, asked"),
        ("url: x\ncheckpoint: /nowhere", "/nowhere has no zreward.json"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=told):
            read_settings(f"endpoint:{file}")
    with pytest.raises(InputError, match=r"expected endpoint:URL#MODEL, such as .*FILE.yaml with the keys url, model"):
        read_settings("endpoint:localhost")
