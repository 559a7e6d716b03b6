"""Encoded pictures without their metadata: a decoder that never sees metadata cannot fail on it, nor be led by it.

PNG, JPEG and WebP are taken apart into what makes the pixels and the two things that say how to show them, the EXIF block
(for its orientation) and the colour profile. What is unreadable among the rest is left out; damaged pixels are refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PROFILE = 8 << 20  # bytes; larger colour profiles, packed or not, are ignored
MAX_BLOCKS = 100_000  # chunks or segments; pictures have some thousands, and each takes its microseconds
_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")  # of a chunk: its length and its kind
_USED = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"iCCP"}  # chunks of a PNG


class DamagedError(ValueError):
    """The pixels are cut or damaged; the message says where."""


@dataclass(frozen=True)
class Parts:
    """`pixels` is a whole file of the same format without metadata; None for other formats, which stay as they are."""

    pixels: bytes | None = None
    exif: bytes = b""
    profile: bytes = b""


def take_apart(content: bytes) -> Parts:
    """The pixels' own file and the metadata that shows them right.

    DamagedError for a PNG whose header, palette or pixel data are missing, cut or fail their checksum, and for more than
    MAX_BLOCKS blocks.
    """
    if content.startswith(_PNG):
        return _png(content)
    if content.startswith(b"\xff\xd8"):
        return _jpeg(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp(content)
    return Parts()


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none that can be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}4xI", exif)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == 0x0112 and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # cut before the tag was found
    return 1


def _blocks() -> Iterator[None]:
    for _ in range(MAX_BLOCKS):
        yield
    raise DamagedError(f"more than {MAX_BLOCKS:,} blocks; save it again")


def _png(content: bytes) -> Parts:
    kept, exif, profile, header, at = [_PNG], b"", b"", b"", len(_PNG)
    for _ in _blocks():
        if at + 8 > len(content):
            break
        length, kind = _HEAD.unpack_from(content, at)
        if kind not in _USED:  # texts and the like: there may be thousands
            at += 12 + length
            continue
        body = content[at + 8 : at + 8 + length]
        checksum = content[at + 8 + length : at + 12 + length]
        whole = checksum == zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")
        if kind in (b"IHDR", b"PLTE", b"IDAT") and not whole:
            raise DamagedError(f"{kind.decode()} chunk is cut or fails its checksum")
        if kind in (b"IHDR", b"PLTE", b"IDAT"):
            header = body if kind == b"IHDR" else header
            kept.append(content[at : at + 12 + length])
        elif kind == b"IEND":
            break
        elif whole and kind == b"tRNS":
            kept += _transparency(body, header)
        elif whole and kind == b"eXIf":
            exif = exif or body
        elif whole and kind == b"iCCP":
            profile = profile or _unpacked(body.partition(b"\0")[2][1:])
        at += 12 + length
    if header[9:10] == b"\3" and not any(part[4:8] == b"PLTE" for part in kept):
        raise DamagedError("the palette is missing")
    kept.append(_chunk(b"IEND", b""))
    return Parts(b"".join(kept), exif, profile)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _transparency(body: bytes, header: bytes) -> list[bytes]:
    """The chunk of what is transparent, in the depth to which Pillow decodes; none where it does not fit the header."""
    depth, colour = header[8:10] if len(header) >= 10 else (8, 0)
    if colour == 0 and len(body) == 2:
        if depth < 8:
            body = struct.pack(">H", min(255, struct.unpack(">H", body)[0] * 255 // (2**depth - 1)))
    elif colour == 2 and len(body) == 6:
        if depth == 16:
            body = struct.pack(">3H", *(value >> 8 for value in struct.unpack(">3H", body)))
    elif colour != 3:
        return []
    return [_chunk(b"tRNS", body)]


def _unpacked(packed: bytes) -> bytes:
    """Deflated bytes; none where they are broken or more than MAX_PROFILE."""
    try:
        found = zlib.decompressobj().decompress(packed, MAX_PROFILE + 1)
    except zlib.error:
        return b""
    return found if len(found) <= MAX_PROFILE else b""


def _jpeg(content: bytes) -> Parts:
    kept, exif, at = [content[:2]], b"", 2
    profile: dict[int, tuple[int, bytes]] = {}  # number -> how many there are, part
    for _ in _blocks():
        if at + 4 > len(content):
            break
        marker = content[at + 1]
        if content[at] != 0xFF or marker == 0xDA:  # the pixels, or what only the decoder may judge
            break
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill bytes; markers without a segment
            at += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", content, at + 2)[0]
        body = content[at + 4 : at + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile.setdefault(body[12], (body[13], body[14:]))
        elif not _is_metadata(marker, body):
            kept.append(content[at : at + 2 + length])
        at += 2 + max(2, length)
    kept.append(content[at:])
    return Parts(b"".join(kept), exif, _joined(profile))


def _is_metadata(marker: int, body: bytes) -> bool:
    """Comments and application segments, but for those by which the decoder knows the colours (JFIF, Adobe)."""
    if marker == 0xE0:
        return not (body.startswith(b"JFIF\0") and len(body) >= 14)
    if marker == 0xEE:
        return not (body.startswith(b"Adobe") and len(body) >= 12)
    return marker == 0xFE or 0xE0 <= marker <= 0xEF


def _joined(segments: dict[int, tuple[int, bytes]]) -> bytes:
    """A colour profile from its numbered segments; none where one of them is missing."""
    if sorted(segments) != list(range(1, len(segments) + 1)) or {count for count, _ in segments.values()} != {
        len(segments)
    }:
        return b""
    return b"".join(segments[number][1] for number in sorted(segments))


def _webp(content: bytes) -> Parts:
    kept: list[bytes] = []
    found, at = {b"EXIF": b"", b"ICCP": b"", b"XMP ": b""}, 12
    for _ in _blocks():
        if at + 8 > len(content):
            break
        kind, length = struct.unpack_from("<4sI", content, at)
        end = at + 8 + length + length % 2
        if kind in found:
            found[kind] = found[kind] or content[at + 8 : at + 8 + length]
        elif kind == b"VP8X" and length >= 10:
            flags = content[at + 8] & ~0x2C  # no profile, EXIF or XMP any more
            kept.append(content[at : at + 8] + bytes([flags]) + content[at + 9 : end])
        else:
            kept.append(content[at:end])
        at = end
    body = b"WEBP" + b"".join(kept) + content[at:]
    return Parts(b"RIFF" + struct.pack("<I", len(body)) + body, found[b"EXIF"], found[b"ICCP"])
