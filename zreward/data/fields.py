"""Fields of records and preferences: each is what it should be, or an InputError that names it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.texts import check_unicode, is_blank


def finite_number(value: Any, what: str) -> float:
    """The value as a float; InputError, naming `what`, for anything but a finite number."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    raise InputError(f"{what} is {shown(value)}, expected a finite number")


def plain_text(value: Any, what: str) -> str:
    """The value; InputError, naming `what`, for anything but text that is not blank."""
    if not isinstance(value, str) or is_blank(value):
        raise InputError(f"{what} is {shown(value)}, expected text that is not empty")
    check_unicode(value, what)
    return value


def plain_list(value: Any, what: str, of: str = "") -> list[Any]:
    """The value as a list; InputError, naming `what`, for text, bytes, a mapping, or what is no collection at all."""
    if isinstance(value, list):
        return list(value)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{what} is {shown(value)}, expected a list{of and f' of {of}'}")
    return list(value)


def texts(values: Any, what: str, each: str) -> tuple[str, ...]:
    """A list of texts, none of them blank; InputError, naming `what`, or `each` for one of them."""
    return tuple([plain_text(value, each) for value in plain_list(values, what, "text")])


def check_known(key: Any, keys: Sequence[str]) -> None:
    """InputError for a key that is none of `keys`, naming the nearest that it may stand for."""
    if key in keys:
        return
    nearest = difflib.get_close_matches(str(key).lower(), keys, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise InputError(f"unknown key {key!r}; {hint}Known: {', '.join(keys)}")
