"""Before a request is read: who sends it, and how much."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.responses import JSONResponse

OPEN_PATHS = ("/health",)


class Gate:
    """ASGI middleware: 401 without the token, 413 for a body over the limit. The body is read here, once, and handed on."""

    def __init__(self, app: Any, max_body: int, token: str | None) -> None:
        self.app, self.max_body, self.token = app, max_body, token

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.token and scope["path"] not in OPEN_PATHS and not self._knows(headers.get(b"authorization", b"")):
            await _refuse(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})(
                scope, receive, send
            )
            return
        body = await self._body(headers, receive)
        if body is None:
            limit = f"the request is larger than {self.max_body:,} bytes; send fewer or smaller images"
            await _refuse(413, limit)(scope, receive, send)
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, replay, send)

    def _knows(self, given: bytes) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given, f"Bearer {self.token}".encode())

    async def _body(self, headers: dict[bytes, bytes], receive: Any) -> bytes | None:
        """None where it is too large, or its sender went away."""
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.max_body:
            return None
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
