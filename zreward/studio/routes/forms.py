"""What a form may send: how much, in which encoding, and which characters."""

from __future__ import annotations

import re
from email.message import Message

from fastapi import HTTPException, Request
from starlette.datastructures import FormData

from zreward.studio.routes.security import SAFE

LARGEST = 1_000_000  # bytes of the forms of LONG
SHORT = 64_000  # bytes of any other: parsing costs time before it is known who sends it
LONG = ("/rubric", "/quality/gold/file")
LONGEST = 20_000  # letters of a value
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def refusal(request: Request) -> tuple[int, str] | None:
    """(status, reason) for a form that is not even read."""
    if request.method in SAFE:
        return None
    length, most = request.headers.get("content-length", ""), LARGEST if request.url.path in LONG else SHORT
    if not length.isdecimal() or int(length[:12]) > most:
        return 413, f"This form has at most {most} bytes, and says how many."
    charset = _charset(request.headers.get("content-type", ""))
    if charset not in (None, "utf-8", "utf8"):
        return 415, f"A form in {charset[:40]}; expected UTF-8."
    return None


async def check_texts(request: Request) -> None:
    """422 for values that no text field can hold: control characters, halves of a surrogate pair, overlong ones."""
    sent = request.query_params.multi_items()
    if request.method not in SAFE and "form" in request.headers.get("content-type", ""):
        form: FormData = await request.form()
        sent += [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
    for key, value in sent:
        for text in (key, value):
            if found := _NO_TEXT.search(text):
                raise HTTPException(422, f"a form field holds the character U+{ord(found[0]):04X}; expected text")
        if len(value) > LONGEST:
            raise HTTPException(422, f"{key[:40]}: {len(value)} letters; expected at most {LONGEST}")


def _charset(content_type: str) -> str | None:
    message = Message()
    message["content-type"] = content_type
    return message.get_content_charset()
