"""Pictures made by hand, chunk by chunk, and every way in which one can arrive."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

Chunk = tuple[bytes, bytes]


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    """A PNG chunk, with a wrong checksum where `wrong` is not zero."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of raw `rows` (each begins with its filter, 0); `more` stands between header and pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels


def ways_in(content: bytes, folder: Path) -> Iterator[tuple[str, Any]]:
    """The same encoded picture as everything that may hold it. Objects are new, files are opened lazily."""
    path = folder / "picture"
    path.write_bytes(content)
    ways: dict[str, Callable[[], Any]] = {
        "path": lambda: path,
        "name": lambda: str(path),
        "bytes": lambda: content,
        "bytearray": lambda: bytearray(content),
        "memoryview": lambda: memoryview(content),
        "BytesIO at its end": lambda: _at_end(content),
        "open file": lambda: path.open("rb"),
        "PIL, lazy": lambda: Image.open(path),
        "PIL, loaded": lambda: _loaded(path),
        "mapping of bytes": lambda: {"bytes": content, "path": None},
        "mapping of a path": lambda: {"bytes": None, "path": str(path)},
    }
    for name, make in ways.items():
        yield name, make()


def _at_end(content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)
    return file


def _loaded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image
