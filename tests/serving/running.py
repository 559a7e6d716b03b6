"""A real server in a thread or as the command, and pictures as requests hold them."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from zreward.common.listening import listen, url
from zreward.serving.app import create_app
from zreward.serving.listener import uvicorn_server
from zreward.serving.settings import Settings


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def text(picture: Image.Image) -> str:
    return base64.b64encode(png(picture)).decode()


@contextmanager
def running(model, **settings):
    """Base URL of a server in a thread; it has answered everything when the block ends."""
    app = create_app(model, "world:small", Settings(**settings))
    server, sockets = uvicorn_server(app), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it answered"
        time.sleep(0.01)
    try:
        yield url("127.0.0.1", sockets)
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Command:
    """A running `zreward serve`."""

    process: subprocess.Popen[str]
    address: str
    _errors: IO[str]
    _loaded: int = 0

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def errors(self) -> str:
        """What it has written to stderr since it was ready."""
        self._errors.seek(self._loaded)
        return self._errors.read()

    def http_process(self) -> int:
        """The number of its process that speaks HTTP (Linux)."""
        (found,) = [pid for pid in children(self.process.pid) if b"resource_tracker" not in command_line(pid)]
        return found


@contextmanager
def command(model: str, *options: str) -> Iterator[Command]:
    """`zreward serve` in processes of its own, once it has printed its address; killed when the block ends."""
    words = [sys.executable, "-m", "zreward.cli", "serve", model, "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if name != "ZREWARD_TOKEN"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=Path(__file__).parents[2], env=environment
        )
        assert process.stdout is not None
        made = Command(process, "", errors)
        try:
            line = process.stdout.readline()
            said = re.match(r"zreward serves .* at (http://\S+:\d+) \(documentation: \1/docs\)", line)
            assert said, line + made.errors()
            made.address, made._loaded = said[1], os.fstat(errors.fileno()).st_size
            yield made
        finally:
            process.kill()
            process.wait()


def children(pid: int) -> list[int]:
    """Processes that a process has started, its threads' included (Linux)."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in found for child in one.read_text().split()]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; 60 s at most."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for 60 s")
