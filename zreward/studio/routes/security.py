"""Signed cookies, CSRF tokens, and the headers that every page carries."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Any

from fastapi import HTTPException, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from zreward.studio.domain.browser_sessions import SESSION_LASTS, SignedSession

COOKIE, DEVICE = "studio_session", "studio_device"
DEVICE_LASTS = 180 * 24 * 3600  # seconds
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SAFE = ("GET", "HEAD", "OPTIONS")


class Signer:
    """Writes and reads the session cookie, and derives its CSRF token."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._serializer, self._devices = (
            URLSafeTimedSerializer(secret, salt=f"zreward studio {what}", signer_kwargs={"digest_method": sha256})
            for what in ("session", "device")
        )

    def write(self, session: SignedSession) -> str:
        return self._serializer.dumps([session.user, session.version, session.salt])

    def read(self, cookie: str | None) -> SignedSession | None:
        """None for a cookie that is missing, forged or too old."""
        try:
            user, version, salt = self._serializer.loads(cookie or "", max_age=SESSION_LASTS)
            return SignedSession(int(user), int(version), str(salt))
        except (BadSignature, ValueError, TypeError):
            return None

    def write_device(self, name: str) -> str:
        """Marks a browser in which somebody of this name has signed in."""
        return self._devices.dumps([name, secrets.token_urlsafe(12)])

    def read_device(self, cookie: str | None, name: str) -> str | None:
        """The browser's own name if `name` has signed in with it before."""
        try:
            known, device = self._devices.loads(cookie or "", max_age=DEVICE_LASTS)
        except (BadSignature, ValueError, TypeError):
            return None
        return str(device) if known == name else None

    def csrf(self, salt: str) -> str:
        return hmac.new(self._secret, f"csrf {salt}".encode(), sha256).hexdigest()


async def check_csrf(request: Request, expected: str) -> None:
    """403 for a POST without the session's token, in the form field `csrf` or the header X-CSRF-Token."""
    if request.method in SAFE:
        return
    given: Any = request.headers.get("x-csrf-token")
    if given is None and "form" in request.headers.get("content-type", ""):
        given = (await request.form()).get("csrf")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "the form was not sent from this studio, or is too old; load the page again")
