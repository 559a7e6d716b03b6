"""Servers that a guide starts: on free ports, in processes of their own, until the guide is through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from tests.endpoint.server import serving
from zreward.world.base_models import load_base

PATIENCE = 300  # seconds until a server must say its address, or be gone


class Servers:
    """`urls` maps the address that a guide names to the one where that server really is."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, words: Sequence[str], variables: Mapping[str, str]) -> str:
        """Start `zreward WORDS` on a free port and ask it; the address of the first of a kind stands for the usual one."""
        serves_model = words[0] == "serve"
        log = Path(f"server-{len(self._running)}.log")
        with log.open("w") as file:
            command = [sys.executable, "-m", "zreward.cli", *words, "--port", "0"]
            environment = os.environ | variables | {"PYTHONUNBUFFERED": "1"}
            server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        self._running.append(server)
        end = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://[^\s:/]+:([1-9]\d*)\s", log.read_text())):
            assert server.poll() is None and time.monotonic() < end, f"{' '.join(words)}: {log.read_text()}"
            time.sleep(0.1)
        url = f"http://127.0.0.1:{found[1]}"
        with urllib.request.urlopen(f"{url}/{'health' if serves_model else 'sign-in'}", timeout=60) as answer:
            assert answer.status == 200
        self.urls.setdefault("http://127.0.0.1:8000" if serves_model else "http://127.0.0.1:8080", url)
        return f"started at a free port, asked, stopped at the end ({found[0].strip()})"

    def stop(self) -> None:
        """Each must end by itself when it is asked to."""
        for server in self._running:
            server.terminate()
        for server in self._running:
            try:
                server.wait(PATIENCE)
            finally:
                server.kill()


class Endpoint:
    """A server in the OpenAI form with a small shipped model, for names such as endpoint:FILE.yaml in a guide."""

    def __init__(self) -> None:
        self._stack, self._url = ExitStack(), ""

    def named(self, name: str) -> str:
        """The name, led to this server: the settings file as it is but for its address."""
        if not self._url:
            self._url, _ = self._stack.enter_context(serving(load_base("small").eval(), favour=5.0))
        place = name.removeprefix("endpoint:")
        if place.startswith("http"):
            return f"endpoint:{self._url}#{place.partition('#')[2]}"
        settings = yaml.safe_load(Path(place).read_text())
        Path("here.yaml").write_text(yaml.safe_dump(settings | {"url": self._url}))
        return "endpoint:here.yaml"

    def stop(self) -> None:
        self._stack.close()
