"""What a model was trained on, as hashes: enough to find a prompt or a picture again, not to read them.

Stored beside a checkpoint as `training_data.parquet`: a row per distinct prompt, and answer of 100 letters or more (64 bits of
the SHA-256 of the normalised text), and per picture (`zreward.data.looks`). A text in other capitals or spacing, and a
recompressed or resized copy of a picture, are found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zreward.common.bounded import check_regular
from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.images import ImageSource
from zreward.data.looks import COLOURS, WORDS, Looks, looks_of, near_duplicates
from zreward.data.splits import normalised

SEEN_FILE = "training_data.parquet"
VERSION = "1"
SHOWN = 3
_ROWS = 1 << 12  # that are written and read together


@dataclass(frozen=True, eq=False)
class SeenData:
    """Distinct prompts [P], rising, and pictures; `pictures` is None where they were not hashed."""

    prompts: NDArray[np.uint64]
    pictures: Looks | None

    def merged(self, other: SeenData) -> SeenData:
        """What either has; pictures are unknown where either's are."""
        both = None
        if self.pictures is not None and other.pictures is not None:
            both = _distinct((self.pictures, other.pictures))
        return SeenData(np.union1d(self.prompts, other.prompts), both)

    def counts(self) -> dict[str, int | None]:
        return {"prompts": len(self.prompts), "pictures": None if self.pictures is None else len(self.pictures)}


@dataclass(frozen=True)
class Overlap:
    """What a set has in common with what was seen.

    Args:
        prompts: the texts that were seen.
        pictures: the numbers of the pictures that look like one that was seen; None where pictures could not be compared.
        of_prompts: how many distinct prompts the set has.
        of_pictures: how many pictures.
    """

    prompts: tuple[str, ...]
    pictures: tuple[int, ...] | None
    of_prompts: int
    of_pictures: int

    def __bool__(self) -> bool:
        return bool(self.prompts or self.pictures)

    def describe(self, names: Sequence[str]) -> str:
        """In words; `names` are those of the set's pictures."""
        parts = []
        if self.prompts:
            parts.append(f"{len(self.prompts):,} of {self.of_prompts:,} prompts ({_some(self.prompts)})")
        if self.pictures:
            shown = [names[number] for number in self.pictures[:SHOWN]]
            parts.append(
                f"{len(self.pictures):,} of {self.of_pictures:,} pictures ({_some(shown, len(self.pictures))})"
            )
        return " and ".join(parts) or f"none of {self.of_prompts:,} prompts and {self.of_pictures:,} pictures"


def seen_of(prompts: Iterable[str], looks: Sequence[Looks | None]) -> SeenData:
    """Hashes of prompts, beside those of pictures in parts; pictures are unknown where a part's are."""
    keys = np.unique(np.fromiter(map(prompt_key, prompts), np.uint64))
    known = [one for one in looks if one is not None]
    return SeenData(keys, _distinct(known) if len(known) == len(looks) else None)


def prompt_key(prompt: str) -> int:
    """64 bits of a prompt's text; equal for prompts that differ in case, white space or Unicode form only."""
    return int.from_bytes(hashlib.sha256(normalised(prompt).encode()).digest()[:8], "little")


def find_overlap(seen: SeenData, prompts: Sequence[str], images: Sequence[ImageSource]) -> Overlap:
    """`compare` with pictures that are yet to be hashed. InputError: a picture that cannot be read."""
    return compare(seen, prompts, None if seen.pictures is None else looks_of(images), len(images))


def compare(seen: SeenData, prompts: Sequence[str], looks: Looks | None, of_pictures: int = 0) -> Overlap:
    """What prompts and pictures have in common with what was seen; `looks` None: pictures are not compared."""
    distinct = list({normalised(prompt): prompt for prompt in prompts}.values())
    keys = np.array([prompt_key(prompt) for prompt in distinct], np.uint64)
    known = np.isin(keys, seen.prompts)
    shared = tuple(prompt for prompt, there in zip(distinct, known, strict=True) if there)
    if looks is None or seen.pictures is None:
        return Overlap(shared, None, len(distinct), of_pictures)
    twins = near_duplicates(looks, seen.pictures)
    return Overlap(shared, tuple(np.flatnonzero(twins >= 0).tolist()), len(distinct), len(looks))


def save_seen(seen: SeenData, path: Path) -> None:
    """Write `seen` as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    looks = seen.pictures or Looks.none()
    notes = {"version": VERSION, "pictures": str(seen.pictures is not None)}
    schema = _schema().with_metadata(notes)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for start in range(0, len(seen.prompts), _ROWS):
            writer.write_batch(_batch({"prompt": seen.prompts[start : start + _ROWS]}))
        for start in range(0, len(looks), _ROWS):
            hashes, colours = looks.hashes[start : start + _ROWS], looks.colours[start : start + _ROWS]
            words = {f"hash_{word}": hashes[:, word] for word in range(WORDS)}
            writer.write_batch(_batch(words | {"colours": [row.tobytes() for row in colours]}))


def _schema() -> Any:
    import pyarrow as pa

    words = [(f"hash_{word}", pa.uint64()) for word in range(WORDS)]
    return pa.schema([("prompt", pa.uint64()), *words, ("colours", pa.binary())])


def _batch(columns: Mapping[str, Any]) -> Any:
    """Rows that have a value in some columns only."""
    import pyarrow as pa

    (count,) = {len(column) for column in columns.values()}
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in _schema()
    ]
    return pa.record_batch(arrays, schema=_schema())


def load_seen(path: Path) -> SeenData:
    """What `save_seen` wrote. InputError for anything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    advice = "expected hashes of training data; fetch the checkpoint again"
    size = check_regular(path, "hashes of training data")
    try:
        # Colours stay references to the distinct ones until their sizes are known.
        with pq.ParquetFile(path, read_dictionary=["colours"], pre_buffer=False) as file:
            _check_layout(file, size)
            notes = file.schema_arrow.metadata or {}
            parts = [_part(file.read_row_group(number)) for number in range(file.num_row_groups)]
        prompts = np.sort(np.concatenate([np.empty(0, np.uint64), *(found for found, _ in parts)]))
        if notes.get(b"pictures") != b"True":
            return SeenData(prompts, None)
        return SeenData(prompts, Looks.cat(looks for _, looks in parts))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; {advice}") from None


def _part(table: Any) -> tuple[NDArray[np.uint64], Looks]:
    """Prompts and pictures of some rows."""
    words = [table[f"hash_{word}"].drop_null().to_numpy() for word in range(WORDS)]
    return table["prompt"].drop_null().to_numpy(), Looks(np.stack(words, 1), _colours(table["colours"], len(words[0])))


def _check_layout(file: Any, size: int) -> None:
    """ValueError unless an open Parquet file of `size` bytes is one that `save_seen` wrote, by what it says of itself."""
    import pyarrow as pa

    version = (file.schema_arrow.metadata or {}).get(b"version")
    if version != VERSION.encode():
        raise ValueError(f"version {version!r}, this zreward reads {VERSION}")
    for name in ("prompt", *(f"hash_{word}" for word in range(WORDS))):
        if (found := file.schema_arrow.field(name).type) != pa.uint64():
            raise ValueError(f"column {name} holds {found}, not uint64")
    if file.metadata.num_rows > size:  # hashes do not compress: so many rows are one row over and over
        raise ValueError(f"{file.metadata.num_rows:,} rows in {size:,} bytes")


def _colours(column: Any, count: int) -> NDArray[np.uint8]:
    """[count, COLOURS] of a column of bytes; ValueError for another number of them, and for other sizes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for part in column.chunks:
        if (
            part.type.value_type != pa.binary()
            or pc.any(pc.not_equal(pc.binary_length(part.dictionary), COLOURS)).as_py()
        ):
            raise ValueError(f"colours of another size than {COLOURS} bytes")
    found = np.concatenate([np.empty((0, COLOURS), np.uint8), *map(_bytes_of, column.cast(pa.binary()).chunks)])
    if len(found) != count:
        raise ValueError(f"colours of {len(found):,} pictures, and hashes of {count:,}")
    return found


def _bytes_of(part: Any) -> NDArray[np.uint8]:
    """[N, COLOURS] of N values that are not null, each of COLOURS bytes."""
    values = part.drop_null()
    _, ends, content = values.buffers()
    if not len(values):
        return np.empty((0, COLOURS), np.uint8)
    start = int(np.frombuffer(ends, np.int32)[values.offset])
    return np.frombuffer(content, np.uint8, len(values) * COLOURS, start).reshape(-1, COLOURS)


def _distinct(looks: Sequence[Looks]) -> Looks:
    """Pictures that are the same bit for bit once, in the order of their hashes."""
    rows = np.concatenate([np.empty((0, 8 * WORDS + COLOURS), np.uint8), *map(_as_bytes, looks)])
    rows.view(f"V{rows.shape[1]}").ravel().sort()  # in place; as the bytes stand
    words, new = rows.view(np.uint64), np.ones(len(rows), bool)
    new[1:] = False
    for word in words.T:
        new[1:] |= word[1:] != word[:-1]
    return Looks(words[new, :WORDS], rows[new, 8 * WORDS :])


def _as_bytes(looks: Looks) -> NDArray[np.uint8]:
    """[N, 8 WORDS + COLOURS]"""
    return np.concatenate([np.ascontiguousarray(looks.hashes).view(np.uint8), looks.colours], 1)


def _some(names: Sequence[str], count: int = 0) -> str:
    count = count or len(names)
    return "; ".join(map(repr, names[:SHOWN])) + ("; ..." if count > SHOWN else "")
