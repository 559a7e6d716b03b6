"""TensorFlow's record files without TensorFlow: every checksum is checked, then each record is read as a `tf.train.Example`.

A record is its length (8 bytes, little-endian), the masked CRC-32C of those 8 bytes, the content, and the masked CRC-32C of the
content (tensorflow/tensorflow, tensorflow/core/lib/io/record_writer.h). An Example is a protocol buffer: a map from names to
lists of bytes, floats or integers (tensorflow/core/example/example.proto, feature.proto). A few records are in memory at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from zreward.common.errors import InputError

Values = list[bytes] | list[float] | list[int]
_TOGETHER = 128  # records whose checksums are computed together
_AREA = 1 << 28  # bytes of them, each counted as long as the longest
_MOST_BYTES = 1 << 24  # of one record
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class RawRecord(NamedTuple):
    """The `number`-th record of a file, from 1; `fault` says why its content cannot be trusted."""

    number: int
    content: bytes
    fault: str | None


def read_tfrecord(path: Path) -> Iterator[RawRecord]:
    """The records of a file. A wrong checksum of a content is that record's fault.

    Raises:
        InputError: no such file; it ends inside a record; a damaged length, after which no record can be found.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        number = 0
        for part in _parts(file, path):
            for (content, told), computed in zip(part, masked_crc32c([content for content, _ in part]), strict=True):
                number += 1
                yield RawRecord(
                    number, content, None if told == computed else "its checksum does not match its content"
                )


def parse_example(content: bytes) -> dict[str, Values]:
    """The features of a `tf.train.Example`. InputError for what is none."""
    features: dict[str, Values] = {}
    try:
        for field, message in _fields(content):
            if field == 1:
                for inner, entry in _fields(_bytes(message)):
                    if inner == 1:
                        pair = dict(_fields(_bytes(entry)))
                        features[_bytes(pair[1]).decode("utf-8")] = _values(_bytes(pair[2]))
    except (IndexError, KeyError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise InputError(f"not a tf.train.Example ({type(error).__name__}: {error})") from None
    return features


def masked_crc32c(texts: Sequence[bytes]) -> list[int]:
    """The masked CRC-32C of each text, all at once: step i of the usual loop is taken for every text that has a byte i."""
    if not texts:
        return []
    order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
    lengths = np.array([len(texts[n]) for n in order])
    columns = np.zeros((lengths[0], len(texts)), np.uint8)  # byte by text, the longest text first
    for position, n in enumerate(order):
        columns[: len(texts[n]), position] = np.frombuffer(texts[n], np.uint8)
    state = np.full(len(texts), 0xFFFFFFFF, np.uint32)
    active = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")  # texts longer than i
    for i, count in enumerate(active):
        now = state[:count]
        state[:count] = _TABLE[(now ^ columns[i, :count]) & 0xFF] ^ (now >> 8)
    plain = (state ^ np.uint32(0xFFFFFFFF)).astype(np.uint64)
    masked = (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    result = [0] * len(texts)
    for position, n in enumerate(order):
        result[n] = int(masked[position])
    return result


def _table() -> np.ndarray:
    """Of the reflected Castagnoli polynomial."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0x82F63B78) ^ (table >> 1), table >> 1).astype(np.uint32)
    return table


_TABLE = _table()


def _parts(file: BinaryIO, path: Path) -> Iterator[list[tuple[bytes, int]]]:
    """Contents and checksums of records, as many together as `masked_crc32c` has room for."""
    part: list[tuple[bytes, int]] = []
    number, longest = 1, 0
    while (framed := _next(file, path, number)) is not None:
        number, longest = number + 1, max(longest, len(framed[0]))
        if part and (len(part) == _TOGETHER or longest * (len(part) + 1) > _AREA):
            yield part
            part, longest = [], len(framed[0])
        part.append(framed)
    if part:
        yield part


def _next(file: BinaryIO, path: Path, number: int) -> tuple[bytes, int] | None:
    """The content of the next record and the checksum that the file gives for it; None at the end."""
    head = file.read(12)
    if not head:
        return None
    if len(head) == 12:
        length = _LENGTH.unpack(head[:8])[0]
        if _CHECKSUM.unpack(head[8:])[0] != masked_crc32c([head[:8]])[0]:
            advice = "it is damaged, or no TFRecord file"
            if number == 1 and head.startswith(b"version http"):
                advice = "it is a Git LFS pointer; fetch the file itself (git lfs pull)"
            raise InputError(f"{path}: record {number}: the checksum of its length is wrong; {advice}")
        if length > _MOST_BYTES:
            raise InputError(f"{path}: record {number}: it has {length:,} bytes; expected at most {_MOST_BYTES:,}")
        rest = file.read(length + 4)
        if len(rest) == length + 4:
            return rest[:length], _CHECKSUM.unpack(rest[length:])[0]
    raise InputError(f"{path}: record {number}: the file ends inside it; download the file again")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a message. ValueError, IndexError or struct.error where it is cut or of another type."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, at = _varint(message, at)
        if size is None:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("it ends inside a field")
        yield key >> 3, message[at : at + size]
        at += size


def _values(feature: bytes) -> Values:
    """Of a `Feature`: field 1 holds bytes, 2 floats, 3 integers; floats and integers are packed, or one field each."""
    for kind, packed in _fields(feature):
        items = [value for number, value in _fields(_bytes(packed)) if number == 1]
        if kind == 1:
            return [_bytes(item) for item in items]
        if kind == 2:
            return [value for item in items for (value,) in struct.iter_unpack("<f", _bytes(item))]
        if kind == 3:
            return [_signed(value) for item in items for value in ([item] if isinstance(item, int) else _varints(item))]
    return []


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
