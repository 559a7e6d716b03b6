"""Checks before a request is read: the token, the size of its body, the memory of all bodies."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.responses import JSONResponse

OPEN_PATHS = ("/health",)
BODY = "zreward.body"  # of the scope
SMALL = 256 * 1024  # bytes: bodies up to this are not counted against what all may hold


class Gate:
    """ASGI middleware: 401 without the token, 413 for a body over the limit, 429 where large bodies hold too much memory.

    The body is read here, once, and handed on in the scope: as messages it would be copied again, and copies of tens of
    megabytes delay all requests. Small bodies are not counted.
    """

    def __init__(self, app: Any, max_body: int, max_buffered: int, token: str | None) -> None:
        self.app, self.max_body, self.token = app, max_body, token
        self.free = max(max_buffered, max_body)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.token and scope["path"] not in OPEN_PATHS and not self._knows(headers.get(b"authorization", b"")):
            refusal = _refuse(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        body = _Body(self)
        try:
            found = await body.read(headers, receive)
            if isinstance(found, JSONResponse):
                await found(scope, receive, send)
            elif found is not None:
                await self.app(scope | {BODY: found}, receive, send)
        finally:
            self.free += body.held

    def _knows(self, given: bytes) -> bool:
        assert self.token is not None
        scheme, _, token = given.partition(b" ")  # RFC 9110: the scheme in any case, then one space or more
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.lstrip(b" "), self.token.encode())


class _Body:
    """One request's bytes, and how many of them count."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.held = gate, 0

    async def read(self, headers: dict[bytes, bytes], receive: Any) -> bytearray | JSONResponse | None:
        """The body, a refusal, or None where its sender went away."""
        most = self.gate.max_body
        too_large = _refuse(413, f"the request is larger than {most:,} bytes; send fewer or smaller images")
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            return too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                return too_large
            if len(body) > SMALL and not self._hold(len(body) - self.held):
                return _refuse(429, "the server holds too many large requests; try again", {"Retry-After": "2"})
            if not message.get("more_body"):
                return body

    def _hold(self, count: int) -> bool:
        if count > self.gate.free:
            return False
        self.gate.free -= count
        self.held += count
        return True


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
