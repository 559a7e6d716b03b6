"""Values of published rows: each is what it should be, or an InputError that names its field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.fields import finite_number


def whole_number(value: Any, what: str, lowest: int, highest: float = math.inf) -> int:
    """The value; InputError, naming `what`, for anything but a whole number from `lowest` to `highest`."""
    number = number_within(value, what, lowest, highest)
    if not number.is_integer():
        raise InputError(f"{what} is {shown(value)}, expected a whole number")
    return int(number)


def number_within(value: Any, what: str, lowest: float, highest: float = math.inf) -> float:
    """The value; InputError, naming `what`, for anything but a number from `lowest` to `highest`."""
    number = finite_number(value, what)
    if not lowest <= number <= highest:
        limit = f"of {lowest:g} or more" if math.isinf(highest) else f"from {lowest:g} to {highest:g}"
        raise InputError(f"{what} is {shown(value)}, expected a number {limit}")
    return number


def number_in_text(value: Any, what: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
    """`number_within` of a number or of its text, as cells of a table are."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"{what} is {shown(value)}, expected a number") from None
    return number_within(value, what, lowest, highest)


def plain_name(value: Any, what: str) -> str:
    """The value; InputError, naming `what`, for anything but the name of a file without a folder."""
    if not isinstance(value, str) or not value or value in (".", "..") or any(mark in value for mark in "/\\"):
        raise InputError(f"{what} is {shown(value)}, expected the plain name of an image file")
    return value


def needed(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """The values of these fields; InputError for the first that is missing or null."""
    for name in names:
        if row.get(name) is None:
            raise InputError(f"missing {name!r}")
    return tuple(row[name] for name in names)


def first_of(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that the row has; InputError where it has none."""
    found = next((name for name in names if row.get(name) is not None), None)
    if found is None:
        raise InputError(f"missing {' or '.join(map(repr, names))}")
    return found


def models_of(row: Mapping[str, Any], first: str, second: str) -> tuple[str, ...]:
    """What generated a and b; none where one of them is not said."""
    both = row.get(first), row.get(second)
    return () if None in both else both  # type: ignore[return-value]
