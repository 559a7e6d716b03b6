"""What a user can get wrong: the command line prints these messages alone and exits with code 2."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SHOWN = 80  # letters


class InputError(ValueError):
    """Bad input from a user: the message says what came, what was expected and what to do."""


class NotFiniteError(InputError):
    """A model answered NaN or infinity for an item, on a dimension (None where it is not known yet)."""

    def __init__(self, item: int, dimension: str | None = None, what: str = "") -> None:
        self.item, self.dimension = item, dimension
        asked = f", dimension {dimension!r}" if dimension is not None else ""
        super().__init__(
            f"item {item}{f' ({what})' if what else ''}{asked}: the model gives NaN or infinity. Its weights are broken, or "
            "overflow in their number format: check them, or load the model in float32"
        )


@contextmanager
def counted(items: int | Sequence[int], dimension: str | None = None, what: Sequence[Any] = ()) -> Iterator[None]:
    """Renumber the item of a NotFiniteError from inside to the caller's numbering.

    `items` are the caller's numbers of the items inside, or the first of them. `what` are the caller's items, of which paths
    and other texts are shown.
    """
    try:
        yield
    except NotFiniteError as error:
        number = items + error.item if isinstance(items, int) else items[error.item]
        name = str(what[number]) if number < len(what) and isinstance(what[number], str | Path) else ""
        raise NotFiniteError(number, dimension or error.dimension, shorten(name)) from None


class _Short(reprlib.Repr):
    """`repr` of a few items of a few levels only, so that a large value costs no more than a small one."""

    maxlevel, maxlist, maxtuple, maxdict, maxset, maxstring, maxother = 3, 6, 6, 4, 4, _SHOWN, _SHOWN

    def repr_int(self, value: int, level: int) -> str:
        return (
            repr(value)
            if value.bit_length() <= 128
            else f"a number of about {int(value.bit_length() * 0.30103)} digits"
        )


def shown(value: Any) -> str:
    """`repr` of a value for a message, shortened to at most 80 letters at a bounded cost."""
    text = _Short().repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def shorten(text: Any, most: int = _SHOWN) -> str:
    """A text for a message, without quotes: cut to `most` letters."""
    text = str(text) if not isinstance(text, int) else shown(text)
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def plain(text: str) -> str:
    """A text for a message, with question marks instead of control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_counts(**counts: int | None) -> None:
    """InputError naming the first count that is below one, or no whole number; None stands for a default."""
    for name, count in counts.items():
        if count is None:
            continue
        try:
            wrong = operator.index(count) < 1
        except TypeError:
            raise InputError(f"{name} is {shown(count)}; expected a whole number, at least 1") from None
        if wrong:
            raise InputError(f"{name} is {count}; expected at least 1")


def check_temperature(temperature: float) -> None:
    """InputError unless it is a finite number, 0 or more."""
    if not isinstance(temperature, int | float) or not 0 <= temperature < float("inf"):
        raise InputError(f"temperature is {shown(temperature)}; expected a number, 0 (greedy) or more")
