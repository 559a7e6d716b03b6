"""The studio as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time

import httpx

from tests.ports import held_port, number
from zreward.studio.storage.project import Project


class Server:
    """`zreward studio` on a port of its own, which can be killed and started again."""

    def __init__(self, project: Project) -> None:
        self.held = held_port()  # also between a kill and the next start
        self.port = number(self.held)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        self.command = [sys.executable, "-m", "zreward.cli", "studio", str(project.folder), "--port", str(self.port)]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(600):
            try:
                httpx.get(f"{self.url}/sign-in")
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise AssertionError(f"the server did not start ({self.process.poll()}): {self.said()}")

    def said(self) -> str:
        """All that it has printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
