"""Digests of records: they change with prompts, pictures' contents and, where asked, ratings; never with a file's name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from zreward.common.errors import InputError
from zreward.common.files import file_digest
from zreward.data.images import ImageSource, check_path, open_image
from zreward.data.record import Record


def records_fingerprint(records: Iterable[Record], ratings: bool = False) -> str:
    """Sixteen letters for records in their order. `ratings`: also scores, their spreads and groups.

    Files are read piece by piece and not decoded. InputError for a picture that cannot be read.
    """
    digest = hashlib.sha256()
    for one in record_digests(records, ratings):
        digest.update(one)
    return digest.hexdigest()[:16]


def record_digests(records: Iterable[Record], ratings: bool = False) -> Iterator[bytes]:
    """SHA-256 of each record, in order; files are read by a few threads."""
    records = list(records)
    files = (record.image for record in records if isinstance(record.image, str))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        digests = threads.map(image_digest, files)
        for record in records:
            image = next(digests) if isinstance(record.image, str) else image_digest(record.image)
            facts: list[object] = [record.prompt, image]
            if ratings:
                facts += [_plain(record.scores), _plain(record.stds), record.group]
            yield hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def image_digest(image: ImageSource) -> str:
    """SHA-256 of a picture: its encoded bytes as they are; of a PIL image the pixels that a model would see."""
    if isinstance(image, Image.Image):
        picture = open_image(image)
        return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    check_path(image)
    try:
        return file_digest(image)
    except OSError as error:
        raise InputError(f"{image}: cannot be read: {error.strerror or error}") from error


def _plain(ratings: object) -> object:
    """Mappings as JSON takes them."""
    return {name: dict(v) if hasattr(v, "items") else v for name, v in ratings.items()}  # type: ignore[attr-defined]
