"""What counts as a text: one rule for prompts, rubrics and names, wherever they come from."""

from __future__ import annotations

import unicodedata
from typing import Any

from zreward.errors import InputError, shown


def check_prompt(prompt: Any, what: str = "prompt") -> str:
    """The text that an image was made from, as it is. InputError unless it is Unicode text with something to read in it."""
    if not isinstance(prompt, str):
        raise InputError(f"{what} is a {type(prompt).__name__} ({shown(prompt)}); expected a text")
    check_unicode(prompt, what)
    if is_blank(prompt):
        raise InputError(
            f"{what} is empty or blank ({shown(prompt)}); expected the text that the images were made from"
        )
    return prompt


def check_unicode(text: str, what: str) -> None:
    """InputError for half a surrogate pair: no character, but what Python makes of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} is no Unicode text: it holds half a surrogate pair (position {error.start}: {shown(text[error.start])}); "
            "read it as UTF-8"
        ) from None


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, control, format (zero-width) and unassigned characters only."""
    return all(letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf", "Cn") for letter in text)


def is_line(text: str) -> bool:
    """Whether a text can stand on one line: no control characters, no line or paragraph separators."""
    return all(unicodedata.category(letter) not in ("Cc", "Zl", "Zp") for letter in text)
