"""Text files that people edit: recipes, rubrics, manifests, tables, exports. UTF-8, with or without a byte-order mark."""

from __future__ import annotations

import codecs
import os

from zreward.common.bounded import read_bytes
from zreward.common.errors import InputError

MAX_BYTES = 1 << 28  # of a file that is read whole
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path: str | os.PathLike[str], expected: str = "a text file", most: int = MAX_BYTES) -> str:
    """The text of a regular file, its lines ended by "\\n" alone, without a byte-order mark.

    InputError, with path and line, for a file that is missing, no regular file, larger than `most` bytes, or not UTF-8.
    `expected` says in the message what the file should be.
    """
    return decode_text(read_bytes(path, expected, most), str(path)).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(content: bytes, what: str) -> str:
    """UTF-8 without its byte-order mark. InputError names the encoding where it shows, else the line and the byte."""
    check_encoding(content, what)
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise InputError(f"{what}, line {line}: not UTF-8 text (byte 0x{byte:02x}); save it as UTF-8") from None


def check_encoding(start: bytes, what: str) -> None:
    """InputError for text that begins as UTF-16 or UTF-32 does, with a mark or without; a few bytes of it are enough."""
    name = next((name for mark, name in _OTHER_MARKS if start.startswith(mark)), None)
    if name is None and b"\0" in start[:4]:
        name = "UTF-16"
    if name is not None:
        raise InputError(f"{what}: {name} text, or none at all; save it as UTF-8 (in Excel: CSV UTF-8)")
