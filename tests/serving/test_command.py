"""`zreward serve`: the port is owned before anything is loaded, what is printed is true, and nobody is let in by mistake."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from typer.testing import CliRunner

from tests.ports import held_port, number
from zreward.cli import app
from zreward.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.serving import server
from zreward.serving.settings import Settings


@pytest.fixture
def nothing_loads(monkeypatch):
    monkeypatch.setattr(RewardModel, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))


def test_a_port_in_use_is_said_before_the_model_loads(nothing_loads, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"{port}.*--port"):
            server.serve("world:small", Settings(port=port))
    assert capsys.readouterr().out == ""


def test_the_port_is_given_back_where_loading_fails(monkeypatch):
    def load(*_, **__):
        raise InputError("no such checkpoint")

    monkeypatch.setattr(RewardModel, "from_pretrained", load)
    with held_port() as held:
        for _ in range(2):
            with pytest.raises(InputError, match="no such checkpoint"):
                server.serve("nothing", Settings(port=number(held)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "port 70000; expected"),
        (["--port", "-1"], "port -1; expected"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--host", ""], "host is empty"),
        (["--token", ""], "the token is empty"),
        (["--token", "a b"], "the token holds spaces"),
        (["--allow-pickle", "--host", "0.0.0.0"], "this machine only"),
        (["--max-batch", "0"], "max_batch is 0"),
        (["--max-image-tokens", "0"], "max_image_tokens is 0"),
        (["--max-wait", "nan"], "max_wait is nan"),
    ],
)
def test_options_that_cannot_be_end_in_one_message(nothing_loads, arguments, words):
    found = CliRunner().invoke(app, ["serve", "world:small", *arguments])
    assert isinstance(found.exception, InputError), found.output
    assert words in str(found.exception)


def test_an_empty_token_in_the_environment_is_not_no_token(nothing_loads):
    found = CliRunner().invoke(app, ["serve", "world:small", "--host", "0.0.0.0"], env={"ZREWARD_TOKEN": ""})
    assert isinstance(found.exception, InputError) and "the token is empty" in str(found.exception)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_what_is_printed_is_true_and_interrupting_is_no_error():
    host = "::1" if has_ipv6() else "127.0.0.1"
    command = [sys.executable, "-m", "zreward.cli", "serve", "world:small", "--host", host, "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "ZREWARD_TOKEN"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None and process.stderr is not None
        first, limits = process.stdout.readline(), process.stdout.readline()
        found = re.match(r"zreward serves world:small at (http://\S+:\d+) \(documentation: \1/docs\)", first)
        assert found, first + process.stderr.read()
        assert (found[1].startswith("http://[::1]:")) == (host == "::1")
        assert "1,280 tokens an image" in limits
        assert httpx.get(found[1] + "/health", trust_env=False).json()["status"] == "ok"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, -signal.SIGINT, 130)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
