"""`zreward serve`: the port is owned before anything is loaded, what is printed is true, and nobody is let in by mistake."""

from __future__ import annotations

import re
import signal
import socket

import httpx
import pytest
from typer.testing import CliRunner

from tests.ports import held_port, number
from tests.serving.running import command
from zreward.cli.main import app
from zreward.common.errors import InputError
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
    with command("world:small", "--host", host) as running:
        assert running.process.stdout is not None
        limits = running.process.stdout.readline()
        assert re.fullmatch(r"http://(\[::1\]|127\.0\.0\.1):\d+", running.address), running.address
        assert running.address.startswith("http://[::1]:") == (host == "::1")
        assert "1,280 tokens an image" in limits
        assert httpx.get(running.address + "/health", trust_env=False).json()["status"] == "ok"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert running.errors() == ""
