"""What pictures look like, in 80 bytes each, and a search for pictures that look the same.

A perceptual hash (the library ImageHash, 256 bits) and the colours of a 4 x 4 grid. Recompressed and resized copies differ in a
few bits; two pictures of one prompt in about half of them. Mirrored and cropped copies are other pictures here, and copies of
pictures that are almost one flat colour may be missed: their hash is noise.

The limits were chosen on AGIQA-3K (2,014 pictures, and five copies of 250 of them: a quarter of the size at JPEG quality 40, a
third at WebP 30, another aspect ratio, ...) and on the built-in world's drawings, which differ by little.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zreward.common.errors import InputError
from zreward.data.images import ImageSource, open_image

WORDS = 4  # of 64 bits: the hash; the first are its 8 x 8 lowest frequencies
COLOURS = 48  # bytes: red, green and blue of 4 x 4 fields
NEAR_FIRST = 7  # of the first 64 bits; fewer than eight, so that one of their eight bytes is the same
NEAR_ALL = 48  # of all 256 bits
NEAR_COLOURS = 4.0  # mean difference, of 255
_SIDE = 16
_CHUNK = 64  # pictures that are decoded together
_BLOCK = 1 << 22  # comparisons at a time
_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


@dataclass(frozen=True, eq=False)
class Looks:
    """N pictures: `hashes` [N, WORDS] and `colours` [N, COLOURS]."""

    hashes: NDArray[np.uint64]
    colours: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def none(cls) -> Looks:
        return cls(np.empty((0, WORDS), np.uint64), np.empty((0, COLOURS), np.uint8))

    @classmethod
    def cat(cls, parts: Iterable[Looks]) -> Looks:
        parts = [cls.none(), *parts]
        return cls(np.concatenate([one.hashes for one in parts]), np.concatenate([one.colours for one in parts]))

    def __getitem__(self, rows: NDArray[np.intp]) -> Looks:
        return Looks(self.hashes[rows], self.colours[rows])


def looks_of(images: Iterable[ImageSource]) -> Looks:
    """How pictures look, in order; they are decoded by a few threads, a few at a time. InputError as `open_image`."""
    return Looks.cat(_parts(images))


def _parts(images: Iterable[ImageSource]) -> Iterator[Looks]:
    remaining = iter(images)
    check_library()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        while chunk := list(islice(remaining, _CHUNK)):
            found = list(threads.map(_look, chunk))
            yield Looks(np.stack([one for one, _ in found]), np.stack([one for _, one in found]))


def can_compare() -> bool:
    """Whether ImageHash is there."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        return False
    return True


def check_library() -> None:
    """InputError where ImageHash is missing."""
    if not can_compare():
        raise InputError("comparing pictures needs ImageHash, which is not installed; pip install 'zreward[overlap]'")


def _look(image: ImageSource) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    from imagehash import phash

    picture = open_image(image)
    bits = phash(picture, hash_size=_SIDE).hash
    quarters = [bits[:8, :8], bits[:8, 8:], bits[8:, :8], bits[8:, 8:]]
    packed = np.packbits(np.stack([quarter.ravel() for quarter in quarters]), axis=1)
    fields = picture.resize((4, 4), Image.Resampling.BOX)
    return packed.view(np.uint64).ravel(), np.asarray(fields, np.uint8).ravel()


def near_duplicates(pictures: Looks, known: Looks) -> NDArray[np.intp]:
    """For each of N pictures the number of one among `known` that looks the same, -1 where there is none.

    Exact for the limits above: hashes that differ in at most seven of the first 64 bits share one of eight bytes, so only
    pictures with an equal byte are compared (multi-index hashing).
    """
    twin = np.full(len(pictures), -1, np.intp)
    if not len(pictures) or not len(known):
        return twin
    ours, theirs = (np.ascontiguousarray(one.hashes[:, :1]) for one in (pictures, known))
    for band in range(8):
        own, others = (one.view(np.uint8)[:, band] for one in (ours, theirs))
        order = np.argsort(others, kind="stable")
        ends = np.searchsorted(others[order], np.arange(257))
        for value in range(256):
            columns = order[ends[value] : ends[value + 1]]
            rows = np.flatnonzero((own == value) & (twin < 0)) if len(columns) else columns
            for part in _split(rows, _BLOCK // max(len(columns), 1)):
                _compare(pictures, known, part, columns, twin)
    return twin


def _compare(
    pictures: Looks, known: Looks, rows: NDArray[np.intp], columns: NDArray[np.intp], twin: NDArray[np.intp]
) -> None:
    near = bit_count(pictures.hashes[rows, :1] ^ known.hashes[columns, 0]) <= NEAR_FIRST
    found, there = np.nonzero(near)
    found, there = rows[found], columns[there]
    apart = bit_count(pictures.hashes[found] ^ known.hashes[there]).sum(1)
    shades = np.abs(pictures.colours[found].astype(np.int16) - known.colours[there]).mean(1)
    same = (apart <= NEAR_ALL) & (shades <= NEAR_COLOURS)
    twin[found[same]] = there[same]


def bit_count(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits of each number are set."""
    if hasattr(np, "bitwise_count"):  # since NumPy 2
        return np.bitwise_count(numbers)
    split = np.ascontiguousarray(numbers)[..., None].view(np.uint8)
    return _BITS[split].sum(-1, dtype=np.uint8)


def _split(rows: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    size = max(size, 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
