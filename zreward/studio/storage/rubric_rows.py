"""The rubric version in force, as its row in the database."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.storage.schema import RubricVersion


def newest_version(session: Session) -> RubricVersion:
    """The version in force.

    Raises:
        InputError: the database holds no project.
    """
    newest = session.scalar(select(RubricVersion).order_by(RubricVersion.id.desc()).limit(1))
    if newest is None:
        raise InputError("the database holds no project; make one in it with `zreward studio init`")
    return newest
