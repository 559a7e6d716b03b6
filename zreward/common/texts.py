"""What counts as a text: one rule for prompts, rubrics and names, wherever they come from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from string import ascii_letters, digits
from typing import Any

from zreward.common.errors import InputError, shown

_MOST_LETTERS = 1_000_000
MOST_IMAGES = 8
"""Pictures that an item may show beside its text."""
_READABLE = frozenset(ascii_letters + digits)  # with which most texts begin
_UNSEEN = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))
"""Letters and marks that show nothing: fillers, joiners, variation selectors."""


def check_prompt(prompt: Any, what: str = "prompt") -> str:
    """The text that an image was made from, as it is. InputError unless it is Unicode text with something to read in it."""
    if not isinstance(prompt, str):
        raise InputError(f"{what} is a {type(prompt).__name__} ({shown(prompt)}); expected a text")
    check_unicode(prompt, what)
    if len(prompt) > _MOST_LETTERS:  # models read less by far, but counting its tokens would take minutes
        raise InputError(f"{what} has {len(prompt):,} letters ({shown(prompt)}); expected at most {_MOST_LETTERS:,}")
    if is_blank(prompt):
        raise InputError(f"{what} is empty or blank ({prompt[:20]!a}); expected the text that the image was made from")
    return prompt


def check_answer(answer: Any, what: str = "answer") -> str:
    """The words that are judged, as they are. InputError unless it is Unicode text of bounded length with something in it."""
    if not isinstance(answer, str):
        raise InputError(f"{what} is a {type(answer).__name__} ({shown(answer)}); expected a text")
    check_unicode(answer, what)
    if len(answer) > _MOST_LETTERS:
        raise InputError(f"{what} has {len(answer):,} letters ({shown(answer)}); expected at most {_MOST_LETTERS:,}")
    if is_blank(answer):
        raise InputError(f"{what} is empty or blank ({answer[:20]!a}); expected the words to judge")
    return answer


def match_prompts(prompts: Any, images: int, what: str = "image") -> list[str]:
    """One prompt per image (or `what`), each checked: a list as it is, one text for all. InputError for another number."""
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        return [check_prompt(prompts)] * images
    prompts = list(prompts)
    if len(prompts) != images:
        raise InputError(
            f"{images} {what}s but {len(prompts)} prompts; give one prompt per {what}, or one text for all"
        )
    return [check_prompt(prompt, f"prompt {n}" if len(prompts) > 1 else "prompt") for n, prompt in enumerate(prompts)]


def check_unicode(text: str, what: str) -> None:
    """InputError for half a surrogate pair: no character, but what Python makes of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start + 20]
        raise InputError(
            f"{what} is no Unicode text ({near!a} holds half a surrogate pair); write it in UTF-8"
        ) from None


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, control and zero-width characters only."""
    return text[:1] not in _READABLE and all(
        x.isspace() or x in _UNSEEN or unicodedata.category(x) in ("Cc", "Cf") for x in text
    )


def is_line(text: str) -> bool:
    """Whether a text can stand on one line: no control characters, no line or paragraph separators."""
    return all(unicodedata.category(letter) not in ("Cc", "Zl", "Zp") for letter in text)
