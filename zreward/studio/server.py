"""`zreward studio PROJECT`: the pages on an address, until interrupted."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from fastapi import FastAPI

from zreward.common.listening import Patience, run
from zreward.studio.storage.project import Project

PATIENCE = Patience(head=15, body=30, unread=30, connections=1000)


def serve_studio(project: Project, app: FastAPI, sockets: Sequence[socket.socket], proxies: str | None = None) -> None:
    """Blocks. `proxies`: addresses whose X-Forwarded-* headers are believed, with commas between."""
    project.remove_leftovers()
    run(
        app, sockets, PATIENCE, server_header=False, timeout_graceful_shutdown=30,
        proxy_headers=proxies is not None, forwarded_allow_ips=proxies,
    )  # fmt: skip
