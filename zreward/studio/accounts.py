"""Who may come in: invitations by link, passwords (argon2), roles.

Only the SHA-256 of an invitation's token is kept. Setting a password ends all of that person's sessions.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio import signed_in
from zreward.studio.storage import ROLES, User, now

LASTS = timedelta(days=7)
LEAST, MOST = 10, 256  # letters of a password
LONGEST_NAME = 80
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex(16))  # verified in the place of an unknown name, so that both take as long


def invite(session: Session, name: str, role: str) -> tuple[User, str]:
    """A new person, or a new link for one who is there (a forgotten password): (user, token of the link).

    InputError for an unknown role, for a name that is empty or too long, and for a name that has another role.
    """
    name = name.strip()
    _check_role(role)
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InputError(f"name {name[:LONGEST_NAME]!r}; expected 1 to {LONGEST_NAME} printable characters")
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        user = User(name=name, role=role)
        session.add(user)
    elif user.role != role:
        raise InputError(f"{name!r} is here already, as {user.role}; choose another name")
    token = secrets.token_urlsafe(24)
    user.invitation_hash, user.invitation_ends, user.active = _digest(token), now() + LASTS, True
    session.commit()
    return user, token


def invited(session: Session, token: str) -> User | None:
    """Whose invitation this is; None when it is unknown, used or over."""
    user = session.scalar(select(User).where(User.invitation_hash == _digest(token)))
    if user is None or user.invitation_ends is None or user.invitation_ends < now() or not user.active:
        return None
    return user


def accept(session: Session, user: User, password: str) -> None:
    """Set the password; the invitation is used up."""
    if not LEAST <= len(password) <= MOST:
        raise InputError(f"a password of {len(password)} letters; expected {LEAST} to {MOST}")
    user.password_hash = _HASHER.hash(password)
    user.invitation_hash = user.invitation_ends = None
    signed_in.end_all(session, user)
    session.commit()


def set_active(session: Session, user: User, active: bool) -> None:
    """Shut somebody out, with all sessions and an invitation that is open, or let them in again."""
    user.active = active
    user.invitation_hash = user.invitation_ends = None
    signed_in.end_all(session, user)
    session.commit()


def set_role(session: Session, user: User, role: str) -> None:
    """Another role; all sessions of the old one end."""
    _check_role(role)
    if user.role != role:
        user.role = role
        signed_in.end_all(session, user)
        session.commit()


def sign_in(session: Session, name: str, password: str) -> User | None:
    """None for a wrong name or password, without saying which."""
    user = session.scalar(select(User).where(User.name == name.strip(), User.active))
    known = user.password_hash if user is not None and user.password_hash else None
    try:
        _HASHER.verify(known or _NOBODY, password[:MOST])
    except (VerificationError, InvalidHashError):
        return None
    return user if known else None


def has_people(session: Session) -> bool:
    return bool(session.scalar(select(func.count(User.id))))


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"role {role[:40]!r}; expected one of {', '.join(ROLES)}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
