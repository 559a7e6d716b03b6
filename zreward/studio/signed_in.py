"""Which browsers somebody is signed in with. A cookie is worth what its row is: signing out deletes the row."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from zreward.studio.security import LASTS, SignedSession
from zreward.studio.storage import SignedIn, User, now


def begin(session: Session, user: User, salt: str) -> None:
    """Commit that whoever holds a cookie with this salt is `user`; rows that are over go."""
    session.execute(delete(SignedIn).where(SignedIn.ends < now()))
    session.add(SignedIn(user_id=user.id, digest=_digest(salt), ends=now() + timedelta(seconds=LASTS)))
    session.commit()


def who(session: Session, signed: SignedSession) -> User | None:
    """Whose session this is; None once it was ended, for somebody who was shut out, and for one older than the password."""
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
