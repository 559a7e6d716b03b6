"""How our servers listen: they own a port before they say so, and nobody holds a connection without using it.

A client that is waited for costs a connection. So each wait has an end: for a whole request head, for the rest of a body,
and for a reader that does not take its answer. When too many are open, the one that has been idle longest is closed.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from zreward.common.errors import InputError

BACKLOG = 128  # connections that the kernel holds until we take them
# Pieces of a body sent as Transfer-Encoding: chunked: each costs some 50 us to take apart, whatever its size.
_PIECES, _BYTES_PER_PIECE, _BYTES_OF_HEAD = 64, 1024, 2048


@dataclass(frozen=True)
class Patience:
    """How long a client is waited for, in seconds, and how many may be connected at once."""

    head: float = 15.0
    """From the connection, or the last answer, to the end of a request's head."""
    body: float = 60.0
    """From the head to the end of the body."""
    unread: float = 30.0
    """In which a reader that fell behind must have taken what waits for it, some 50 kB."""
    connections: int = 1000


class PatientProtocol(H11Protocol):
    """uvicorn's protocol with an end to every wait for the client."""

    patience = Patience()

    def connection_made(self, transport: Any) -> None:
        self._waits_for: object = None
        self._since = self.loop.time()
        self._alarm: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._pieces = self._received = 0
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self.patience.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for alarm in (self._alarm, self._unread):
            if alarm is not None:
                alarm.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.transport.is_closing():
            # Until the head has ended, a little at a time: only then is it known what the rest is.
            end = len(data) if self.conn.their_state is h11.SEND_BODY else at + _BYTES_OF_HEAD
            part = data[at:end]
            if self._in_crumbs(part):
                self.transport.abort()
                return
            super().data_received(part)
            at = end
        self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.patience.unread, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _in_crumbs(self, data: bytes) -> bool:
        """Whether a chunked body comes in pieces that cost more than they bring."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._pieces = self._received = 0
            return False
        self._pieces += data.count(b"\r\n")
        self._received += len(data)
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return chunked and self._pieces > _PIECES + self._received // _BYTES_PER_PIECE

    def _wait(self) -> None:
        """Set the alarm anew when it is something else that is waited for; more of the same does not put it off."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            waits_for, seconds = (cycle, "head"), self.patience.head
        elif cycle.more_body:
            waits_for, seconds = (cycle, "body"), self.patience.body
        else:
            waits_for, seconds = (cycle, "us"), None
        if waits_for == self._waits_for:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._waits_for, self._since = waits_for, self.loop.time()
        self._alarm = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def _make_room(self) -> None:
        """End the connection that has waited for its client the longest; this one where all others wait for us."""
        waiting = [
            one
            for one in self.connections
            if isinstance(one, PatientProtocol) and one is not self and one._idle and not one.transport.is_closing()
        ]
        min(waiting, key=lambda one: one._since, default=self).transport.abort()

    @property
    def _idle(self) -> bool:
        return self._alarm is not None or self._unread is not None


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of `host` (one for each family). Port 0: any that is free.

    InputError where the port is taken or not allowed, and for a host that is not this machine.
    """
    if not host:
        raise InputError("the host is empty; expected an address of this machine, such as 127.0.0.1")
    if not 0 <= port <= 65535:
        raise InputError(f"port {port}; expected 1 to 65535, or 0 for any free port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r}: {getattr(error, 'strerror', None) or error}") from None
    opened: list[socket.socket] = []
    problem: OSError | None = None
    for family, address in dict.fromkeys((one[0], one[4]) for one in found):
        if opened and port == 0:
            break
        try:
            opened.append(_listen(family, address))
        except OSError as error:
            problem = error
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    if not opened or (problem is not None and problem.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
        for one in opened:
            one.close()
        assert problem is not None
        raise InputError(_why(host, port, problem)) from None
    return opened


def url(host: str, sockets: Sequence[socket.socket]) -> str:
    """Where a browser of this machine finds it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"


def is_open(sockets: Sequence[socket.socket]) -> bool:
    """Whether other machines may reach it."""
    return not all(ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback for one in sockets)


def run(app: Any, sockets: Sequence[socket.socket], patience: Patience, **settings: Any) -> None:
    """Serve an ASGI application until interrupted. `settings` are uvicorn's."""
    server_of(app, patience, **settings).run(list(sockets))


def server_of(app: Any, patience: Patience, **settings: Any) -> uvicorn.Server:
    """What `run` runs."""
    files = _allow_files()
    kept = min(patience.connections, files // 2)
    protocol = type(
        "Protocol", (PatientProtocol,), {"patience": Patience(patience.head, patience.body, patience.unread, kept)}
    )
    options: dict[str, Any] = {"http": protocol, "ws": "none", "backlog": BACKLOG, "log_level": "warning"} | settings
    return uvicorn.Server(uvicorn.Config(app, **options))


def _listen(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)  # two programs may be bound to a port, only one may listen
    except BaseException:
        made.close()
        raise
    return made


def _why(host: str, port: int, problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program; stop that, or name another with --port"
    if problem.errno == errno.EACCES:
        return f"port {port} of {host}: not allowed; ports below 1024 need rights, name a higher one with --port"
    return f"cannot listen on {host}, port {port}: {problem.strerror or problem}"


def _allow_files() -> int:
    """As many open files as the system lets us have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return 8192 if soft == resource.RLIM_INFINITY else soft
