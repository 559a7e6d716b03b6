"""`zreward serve` is two processes: whichever ends, by a signal or by force, nobody waits on and nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.attacks import items, noise
from tests.serving.running import Command, command, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@contextmanager
def asked(server: Command, count: int) -> Iterator[list]:
    """Answers to come of requests that a stopped model has been sent."""
    body = {"content": items(noise(32)), "headers": {"Content-Type": "application/json"}}

    def arrived() -> bool:
        assert not any(answer.done() for answer in answers), [answer.result() for answer in answers if answer.done()]
        return f"zreward_running_requests {count}.0" in http.get("/metrics").text

    os.kill(server.process.pid, signal.SIGSTOP)
    with (
        ThreadPoolExecutor(count) as threads,
        httpx.Client(base_url=server.address, trust_env=False, timeout=120) as http,
    ):
        answers = [threads.submit(http.post, "/v1/score", **body) for _ in range(count)]
        wait_for(arrived)
        yield answers


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_what_was_accepted_is_answered_before_it_leaves():
    with command("world:small") as server:
        other = server.http_process()
        with asked(server, 3) as answers:
            server.process.send_signal(signal.SIGTERM)
            os.kill(other, signal.SIGTERM)  # as systemd does: all processes of a service
            os.kill(other, signal.SIGINT)  # as a terminal does
            server.process.send_signal(signal.SIGCONT)
            assert [answer.result().status_code for answer in answers] == [200] * 3
        assert server.process.wait(60) == 0
        assert server.errors() == ""
        wait_for(lambda: not is_alive(other))


def test_a_model_that_is_killed_leaves_nobody_waiting_and_no_process():
    with command("world:small") as server:
        other = server.http_process()
        with asked(server, 3) as answers:
            server.process.kill()
            found = [answer.result() for answer in answers]
        assert [answer.status_code for answer in found] == [500] * 3
        assert all("the process of the model has ended" in answer.json()["detail"] for answer in found)
        assert server.process.wait(60) == -signal.SIGKILL
        wait_for(lambda: not is_alive(other))
        assert server.errors() == "zreward: the process of the model has ended; the server stops\n"


@pytest.mark.slow
def test_when_the_process_that_speaks_http_is_killed_the_server_ends_with_a_reason():
    with command("world:small") as server:
        os.kill(server.http_process(), signal.SIGKILL)
        assert server.process.wait(60) == 2
        assert server.errors() == "zreward: the process that speaks HTTP has ended early (exit code -9)\n"
