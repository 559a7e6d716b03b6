"""Who may sign in: invitations by link, passwords (argon2), roles.

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
from zreward.studio.domain import browser_sessions
from zreward.studio.storage.schema import ROLES, User, now

INVITATION_LASTS = timedelta(days=7)
LEAST, MOST = 10, 256  # letters of a password
LONGEST_NAME = 80
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex(16))  # verified for an unknown name, so that it takes as long as a known one


def invite(session: Session, name: str, role: str) -> tuple[User, str]:
    """Commit an invitation: for a new person, or a new link for somebody who has forgotten the password.

    Args:
        name: 1 to 80 printable characters.
        role: One of `ROLES`.

    Returns:
        The person, and the token that the link ends in. Only its hash is kept.

    Raises:
        InputError: the role is unknown, the name is empty or too long, or the person has another role.
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
    user.invitation_hash, user.invitation_ends, user.active = _digest(token), now() + INVITATION_LASTS, True
    session.commit()
    return user, token


def invited(session: Session, token: str) -> User | None:
    """Whose invitation this is; None when the token is unknown, used or expired."""
    user = session.scalar(select(User).where(User.invitation_hash == _digest(token)))
    if user is None or user.invitation_ends is None or user.invitation_ends < now() or not user.active:
        return None
    return user


def accept_invitation(session: Session, user: User, password: str) -> None:
    """Commit the password and end the invitation. InputError for a password that is too short or too long."""
    if not LEAST <= len(password) <= MOST:
        raise InputError(f"a password of {len(password)} letters; expected {LEAST} to {MOST}")
    user.password_hash = _HASHER.hash(password)
    user.invitation_hash = user.invitation_ends = None
    browser_sessions.end_all(session, user)
    session.commit()


def set_active(session: Session, user: User, active: bool) -> None:
    """Commit that a person may sign in, or no longer. All sessions and an open invitation end."""
    user.active = active
    user.invitation_hash = user.invitation_ends = None
    browser_sessions.end_all(session, user)
    session.commit()


def set_role(session: Session, user: User, role: str) -> None:
    """Commit another role; all sessions with the old one end. InputError for an unknown role."""
    _check_role(role)
    if user.role != role:
        user.role = role
        browser_sessions.end_all(session, user)
        session.commit()


def sign_in(session: Session, name: str, password: str) -> User | None:
    """The person of that name and password; None when one of them is wrong, without saying which."""
    user = session.scalar(select(User).where(User.name == name.strip(), User.active))
    known = user.password_hash if user is not None and user.password_hash else None
    try:
        _HASHER.verify(known or _NOBODY, password[:MOST])
    except (VerificationError, InvalidHashError):
        return None
    return user if known else None


def has_people(session: Session) -> bool:
    """Whether anybody was invited yet."""
    return bool(session.scalar(select(func.count(User.id))))


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"role {role[:40]!r}; expected one of {', '.join(ROLES)}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
