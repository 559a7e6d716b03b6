"""A row of a source before it is checked, whatever the source is: its fields, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zreward.common.errors import InputError, shown
from zreward.data.packed import PackedImage
from zreward.data.record import KEYS, check_key


@dataclass(frozen=True)
class Layout:
    """What a row may hold."""

    check_key: Callable[[Any], None]  # InputError for a key that no row has
    packed: tuple[str, ...]  # columns that may be JSON text
    image: str  # the column of pictures: one, or a list of them
    single: bool = True  # whether a row may show one picture alone


SEVERAL = "images"
"""The column of a row that shows several pictures."""
RECORDS = Layout(check_key, ("scores", "stds"), "image")
_OURS = ("images", "answer")  # fields that are read only from sources laid out as ours
_NUMBERS_TOO = ("id", "group")  # texts that are numbers in many published sets


@dataclass(frozen=True)
class Fields:
    """What a source calls its prompt and its picture, where it does not call them as a record does.

    Args:
        prompt: a column, or a key of a .json file; txt for the .txt file beside a picture.
        image: a column, or the ending of the picture's file, such as png.
    """

    prompt: str | None = None
    image: str | None = None

    @property
    def are_named(self) -> bool:
        return self.prompt is not None or self.image is not None

    @property
    def names(self) -> dict[str, str]:
        """Of every field of a record, its name in the source. What others call `images` or `answer` may be anything."""
        return {key: key for key in KEYS if key not in _OURS} | {
            "prompt": self.prompt or "prompt",
            "image": self.image or "image",
        }

    def known(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a record holds of a row that somebody else laid out; all else is passed over."""
        found = {key: row[name] for key, name in self.names.items() if row.get(name) is not None}
        for key in _NUMBERS_TOO:
            if type(found.get(key)) is int:
                found[key] = str(found[key])
        if isinstance(found.get("tags"), str):  # not a list: a text of the set's own
            del found["tags"]
        return found


ALIKE = Fields()  # as a record calls them


class SourceRow(NamedTuple):
    """`data` is the row as a mapping, or None when `error` says why it could not be read."""

    number: int
    place: str
    raw: str | Mapping[str, Any]
    data: Mapping[str, Any] | None
    error: str = ""

    @property
    def text(self) -> str:
        """The row as it came; of a row with columns, its JSON, where only the size of bytes is told."""
        return self.raw if isinstance(self.raw, str) else as_json(self.raw)


def bytes_of(row: SourceRow) -> int:
    """Bytes of the encoded pictures that the row itself holds."""
    if row.data is None:
        return 0
    shown = row.data.get(SEVERAL)
    images = [row.data.get("image"), *(shown if isinstance(shown, list) else ())]
    held = (image.get("bytes") if isinstance(image, dict) else image for image in images)
    return sum(len(content) for content in held if isinstance(content, bytes))


def as_json(value: Any) -> str:
    """JSON of a row that was read, for a report; of one that is nested too deeply to be written, its beginning."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_brief)
    except RecursionError:
        return shown(value)


def parse_json(text: str, what: str = "", strict: bool = True) -> Any:
    """JSON: InputError also for a key that stands twice in an object and, if `strict`, for NaN and Infinity."""
    if text == "{}":  # the ratings of most rows
        return {}
    try:
        if text.startswith("\ufeff"):
            return json.loads(text)  # says what is wrong
        return (_STRICT if strict else _LENIENT).decode(text)
    except InputError as error:
        raise InputError(f"{what}{error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{what}not valid JSON: {error.msg} at column {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets nested as deep
        raise InputError(f"{what}not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InputError(f"key {key!r} stands twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} is not JSON; expected a finite number, or null for a rating that is absent")


def _brief(value: Any) -> str:
    if isinstance(value, PackedImage):
        return str(value)
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else f"<{type(value).__name__}>"


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
_LENIENT = json.JSONDecoder(object_pairs_hook=_object)
