"""What the rules refuse besides wrong input (`InputError`); `zreward.studio.app` gives each its HTTP status."""

from __future__ import annotations


class NotAssignedError(Exception):
    """Somebody names a picture that was not given to this person."""


class AlreadyAcceptedError(Exception):
    """An annotator changes a label that quality control has accepted."""


class TooManyAttemptsError(Exception):
    """Too many sign-ins with wrong passwords wait already. `seconds`: when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts with wrong passwords; try again in {seconds} seconds")
        self.seconds = seconds
