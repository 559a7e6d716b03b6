"""The browsers in which people are signed in. A cookie is valid while its row exists; signing out deletes the row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from zreward.studio.storage.schema import SignedIn, User, now

SESSION_LASTS = 14 * 24 * 3600  # seconds


@dataclass(frozen=True)
class SignedSession:
    """What the cookie says. `user`: id, 0 for nobody; `version`: since which password; `salt`: its random part."""

    user: int
    version: int
    salt: str


def begin(session: Session, user: User, salt: str) -> None:
    """Commit that a cookie with this salt stands for `user`. Expired rows are deleted."""
    session.execute(delete(SignedIn).where(SignedIn.ends < now()))
    session.add(SignedIn(user_id=user.id, digest=_digest(salt), ends=now() + timedelta(seconds=SESSION_LASTS)))
    session.commit()


def who(session: Session, signed: SignedSession) -> User | None:
    """Whose session this is; None when it has ended, is older than the password, or the person may not sign in any more."""
    if not signed.user:
        return None
    row = select(User).join(SignedIn, SignedIn.user_id == User.id).where(User.id == signed.user, User.active)
    row = row.where(SignedIn.digest == _digest(signed.salt), SignedIn.ends >= now())
    return session.scalar(row.where(User.session_version == signed.version))


def end(session: Session, salt: str) -> None:
    """Commit the end of one session."""
    session.execute(delete(SignedIn).where(SignedIn.digest == _digest(salt)))
    session.commit()


def end_all(session: Session, user: User) -> None:
    """End all sessions of a person; not committed."""
    session.execute(delete(SignedIn).where(SignedIn.user_id == user.id))
    user.session_version += 1


def _digest(salt: str) -> str:
    return sha256(salt.encode()).hexdigest()
