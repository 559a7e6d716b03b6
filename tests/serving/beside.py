"""How long a small request takes alone and beside an attack: measured in turns, so that a busy machine slows both."""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving.attacks import items, noise
from tests.serving.running import Command, children, command
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel

LONGEST_SIDE = 256
ROOT = Path(__file__).parents[2]


@contextmanager
def serving(*options: str) -> Iterator[Command]:
    """`zreward serve` of the small base model, at most 256 pixels a side.

    When the block ends it must leave in peace, without a traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = RewardModel.from_pretrained("world:small", resolution=ResolutionPolicy(longest_side=LONGEST_SIDE))
        model.save_pretrained(f"{folder}/model")
        with command(f"{folder}/model", *options) as server:
            yield server
            server.process.terminate()
            assert server.process.wait(90) == 0
            assert "Traceback" not in server.errors(), server.errors()[-3000:]


@dataclass(frozen=True)
class Times:
    """Seconds of small requests."""

    alone: list[float]
    beside: list[float]
    attack: str  # what the attackers counted

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles."""
        return percentile(self.beside, 0.99) / percentile(self.alone, 0.99)


def percentile(values: list[float], part: float) -> float:
    """The smallest value that `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@contextmanager
def attacking(name: str, port: int) -> Iterator[list[str]]:
    """An attack from another process, in progress when the block begins; its counts are in the list when it ends."""
    command = [sys.executable, "-m", "tests.serving.attacks", name, str(port)]
    found: list[str] = []
    attack = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert attack.stdin is not None and attack.stdout is not None
    try:
        assert attack.stdout.readline() == "begun\n"
        yield found
        attack.stdin.close()
        found.append(attack.stdout.read().strip())
    finally:
        attack.kill()
        attack.wait()


def measure(port: int, name: str, rounds: int, each: int) -> Times:
    """`each` small requests alone, then as many beside the attack, `rounds` times; 30 s at most for an answer."""
    alone: list[float] = []
    beside: list[float] = []
    counts: list[str] = []
    for _ in range(rounds):
        wait_until_idle(port)
        alone += small_requests(port, each)
        with attacking(name, port) as found:
            time.sleep(1)
            beside += small_requests(port, each)
        counts += found
    return Times(alone, beside, "; ".join(counts))


def wait_until_idle(port: int) -> None:
    """Until nothing of an attack is left to do; 120 s at most."""
    for _ in range(1200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        left = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
        if not left["zreward_running_requests"] and not left["zreward_waiting_images"]:
            return
        time.sleep(0.1)
    raise AssertionError("the server is still at work after the attack has ended")


def small_requests(port: int, count: int) -> list[float]:
    """Seconds of each: a connection of its own, a picture of 32 x 32 pixels, three words."""
    body, taken = items(noise(32)), []
    for _ in range(count):
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        taken.append(time.perf_counter() - begin)
        assert answer.status == 200, answer.status
    return taken


def resident(pid: int) -> float:
    """MiB of a process and all that it has started."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    return own + sum(map(resident, children(pid)))
