"""Signed sessions, CSRF tokens, the rate of attempts, and the headers that every page carries."""

from __future__ import annotations

import hmac
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fastapi import HTTPException, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer

COOKIE = "studio_session"
LASTS = 14 * 24 * 3600  # seconds
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


@dataclass(frozen=True)
class SignedSession:
    """What the cookie says: who, since which password, and a random part that the CSRF token is made from."""

    user: int
    version: int
    salt: str


class Signer:
    """Writes and reads the session cookie, and derives its CSRF token."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._serializer = URLSafeTimedSerializer(
            secret, salt="zreward studio session", signer_kwargs={"digest_method": sha256}
        )

    def write(self, session: SignedSession) -> str:
        return self._serializer.dumps([session.user, session.version, session.salt])

    def read(self, cookie: str | None) -> SignedSession | None:
        """None for a cookie that is missing, forged or too old."""
        try:
            user, version, salt = self._serializer.loads(cookie or "", max_age=LASTS)
            return SignedSession(int(user), int(version), str(salt))
        except (BadSignature, ValueError, TypeError):
            return None

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


class RateLimit:
    """At most so many failures in `seconds`, by key (an address, a name). Forgets what is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._seen: dict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def check(self, key: str, most: int) -> None:
        """Count an attempt as one that fails, before it is known (many may come at once); 429 where there were too many."""
        moment = time.monotonic()
        with self._lock:
            for other in [name for name, times in self._seen.items() if times[-1] < moment - self.seconds]:
                del self._seen[other]
            times = self._seen[key]
            while times and times[0] < moment - self.seconds:
                times.popleft()
            if len(times) >= most:
                wait = max(1, round(times[0] + self.seconds - moment))
                raise HTTPException(
                    429, f"too many attempts; try again in {wait} seconds", headers={"Retry-After": str(wait)}
                )
            times.append(moment)

    def forgive(self, key: str) -> None:
        """The last attempt did not fail."""
        with self._lock:
            if self._seen.get(key):
                self._seen[key].pop()
                if not self._seen[key]:
                    del self._seen[key]
