"""What is wrong with the rows of a file that comes into the studio, as one message: all of the file is taken, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zreward.common.errors import InputError

SHOWN = 20  # problems named in one error


class Problems:
    """Collects the InputErrors of rows. `nothing` is the message's last line: what was not done."""

    def __init__(self, nothing: str) -> None:
        self._nothing = nothing
        self._found: list[str] = []

    @contextmanager
    def of(self, place: str) -> Iterator[None]:
        """Keeps an InputError from inside for the end; the twentieth is the end."""
        try:
            yield
        except InputError as error:
            self._found.append(f"{place}: {error}")
            if len(self._found) == SHOWN:
                self.refuse()

    def refuse(self) -> None:
        """InputError where there was one."""
        if self._found:
            raise InputError("\n".join([*self._found, self._nothing])) from None
