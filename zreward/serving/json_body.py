"""Untrusted JSON, read with bounded work.

Almost all bytes of a usual request are base64 in a few long strings. These are cut out by their quotes first, which a
search finds fast; the short rest is counted, then parsed by `json`, which refuses repeated keys and NaN. So a body of 64
MiB neither becomes millions of objects nor holds Python's lock for long.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, NoReturn

from zreward.serving.pieces import PIECE, in_pieces

_SHORT = 64 * 1024  # bytes of a body that is parsed whole
_LONG = 4096  # bytes from which a string is cut out
_MOST_KEYS, _LONGEST_KEY, _BACKSLASHES = 64, 200, 64


class Unreadable(ValueError):
    """`status` 413: more than the server takes apart; 422: no JSON."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def read_json(body: bytes | bytearray, most: int, longest: int) -> Any:
    """The value of a JSON text in UTF-8. Unreadable beyond `most` values and strings, or `longest` bytes beside long strings."""
    rest, cut = (bytes(body), {}) if _is_short(body, most, longest) else _cut(body, most, longest)
    values = sum(map(rest.count, (b",", b"[", b"{")))
    if values > most:
        raise Unreadable(413, f"{values:,} values in one request; expected at most {most:,}; send fewer items")

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return cut.get(value, value) if isinstance(value, str) else value

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = {key for key, _ in pairs}
        if len(keys) < len(pairs):
            raise Unreadable(422, "a key stands twice in one object")
        if len(keys) > _MOST_KEYS or any(key in cut or len(key) > _LONGEST_KEY for key in keys):
            raise Unreadable(413, f"an object has at most {_MOST_KEYS} keys of {_LONGEST_KEY} letters")
        return {key: filled(value) for key, value in pairs}

    try:
        return json.loads(rest.decode(), object_pairs_hook=checked, parse_constant=_no_number)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable(422, "the JSON is nested too deep") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise Unreadable(422, f"the body is not JSON in UTF-8 ({reason})") from None


def _is_short(body: bytes | bytearray, most: int, longest: int) -> bool:
    """Whether `json` may have it as it is: looking at each quote first would cost more than it saves."""
    return len(body) <= min(_SHORT, longest) and body.count(b'"') <= 2 * most


def _cut(body: bytes | bytearray, most: int, longest: int) -> tuple[bytes, dict[str, str]]:
    """The body with each long string replaced by a name, and the strings by their names."""
    mark = secrets.token_hex(8)
    parts: list[bytes | bytearray] = []
    cut: dict[str, str] = {}
    copied = quotes = long = 0
    begin = body.find(b'"')
    while begin >= 0:
        end = begin
        while True:  # to the quote that no odd number of backslashes precedes
            end = body.find(b'"', end + 1)
            quotes += 1
            if quotes > 2 * most:
                raise Unreadable(413, f"more than {most:,} texts in one request; send fewer items")
            before = body[max(begin, end - _BACKSLASHES) : end]
            backslashes = len(before) - len(before.rstrip(b"\\"))
            if backslashes == _BACKSLASHES:
                raise Unreadable(422, f"{_BACKSLASHES} backslashes before a quote")
            if end < 0 or backslashes % 2 == 0:
                break
        if end < 0:
            break
        if end - begin > _LONG:
            name = f"{mark}{len(cut)}"
            cut[name] = _text(body[begin + 1 : end])
            parts += [body[copied : begin + 1], name.encode()]
            copied = end
            long += end - begin - 1
        begin = body.find(b'"', end + 1)
    if len(body) - long > longest:  # before it is copied
        raise Unreadable(413, f"{len(body) - long:,} bytes of JSON beside long strings; expected at most {longest:,}")
    return b"".join([*parts, body[copied:]]), cut


def _text(raw: bytes | bytearray) -> str:
    """What stands between two quotes. Longer than a piece it can only be base64, which escapes nothing but its slashes."""
    try:
        if len(raw) > PIECE:
            return "".join(in_pieces(_ascii, raw.replace(b"\\/", b"/") if b"\\" in raw else raw))
        return json.loads(b'"' + raw + b'"') if b"\\" in raw else raw.decode()
    except ValueError as error:
        raise Unreadable(422, f"a text of {len(raw):,} bytes is not JSON in UTF-8 ({type(error).__name__})") from None


def _ascii(piece: bytes | bytearray) -> str:
    if b"\\" in piece:
        raise ValueError("an escape")
    return piece.decode("ascii")


def _no_number(name: str) -> NoReturn:
    raise Unreadable(422, f"{name} is no number of JSON")
