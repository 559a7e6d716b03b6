"""A port of this machine that nobody else gets: it stays bound, and nobody listens on it until a test's own server does."""

from __future__ import annotations

import socket


def held_port() -> socket.socket:
    """A socket that holds a free port of 127.0.0.1 until it is closed. A server that sets SO_REUSEADDR may listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def number(held: socket.socket) -> int:
    return held.getsockname()[1]
