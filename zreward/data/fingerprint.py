"""Digests of records: they change with texts, pictures' contents and, where asked, ratings; never with a file's name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from zreward.common.errors import InputError
from zreward.common.files import file_digest
from zreward.data.images import ImageSource, check_path, encoded, open_image
from zreward.data.packed import PackedImage
from zreward.data.record import Record
from zreward.data.record_table import Records, record_facts

_CHUNK = 64  # pictures that are read together
_AS_JSON = json.JSONEncoder(sort_keys=True)


def records_fingerprint(records: Sequence[Record], ratings: bool = False) -> str:
    """Sixteen letters for records in their order. `ratings`: also scores, their spreads and groups.

    Files are read piece by piece and not decoded. InputError for a picture that cannot be read.
    """
    digest = hashlib.sha256()
    for one in record_digests(records, ratings):
        digest.update(one)
    return digest.hexdigest()[:16]


def record_digests(records: Sequence[Record], ratings: bool = False) -> Iterator[bytes]:
    """SHA-256 of each record, in order; files are read by a few threads. Of `open_records` the pictures' digests are known."""
    found = records.facts(ratings) if isinstance(records, Records) else _facts(records, ratings)
    for facts in found:
        yield hashlib.sha256(_AS_JSON.encode(facts).encode()).digest()


def _facts(records: Sequence[Record], ratings: bool) -> Iterator[list[object]]:
    for record, images in zip(records, _image_digests(records), strict=True):
        facts = record_facts(record.prompt, record.answer, images)
        if ratings:
            facts += [_plain(record.scores), _plain(record.stds), record.group]
        yield facts


def _image_digests(records: Sequence[Record]) -> Iterator[list[str]]:
    """`image_digest` of the pictures of each."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(records), _CHUNK):
            yield from threads.map(
                lambda record: [*map(image_digest, record.pictures)], records[start : start + _CHUNK]
            )


def image_digest(image: ImageSource) -> str:
    """SHA-256 of a picture: its encoded bytes as they are; of a PIL image the pixels that a model would see."""
    if isinstance(image, Image.Image):
        picture = open_image(image)
        return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    if isinstance(image, bytes | PackedImage):
        return hashlib.sha256(encoded(image)).hexdigest()
    check_path(image)
    try:
        return file_digest(image)
    except OSError as error:
        raise InputError(f"{image}: cannot be read: {error.strerror or error}") from error


def _plain(ratings: object) -> object:
    """Mappings as JSON takes them."""
    return {name: dict(v) if hasattr(v, "items") else v for name, v in ratings.items()}  # type: ignore[attr-defined]
