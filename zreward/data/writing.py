"""Writing records: JSONL or Parquet, whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image

from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.images import ImageSource, encoded, open_image
from zreward.data.packed import PackedImage
from zreward.data.record import Record
from zreward.data.together import together

ROW_GROUP = 256  # Parquet rows in memory at a time; fewer where their pictures are large
_BYTES = 128 << 20  # of pictures, after which a row group ends
Row = TypeVar("Row")


def save_records(records: Iterable[Record], path: str | os.PathLike[str]) -> Path:
    """Write `records`, which may come one by one, to PATH (.jsonl or .parquet) so that `load_records` gives them back.

    Paths of images below PATH's folder are written relative to it, others absolute; no image file is copied. Images in
    memory: Parquet holds them encoded as they are (PIL: as PNG), in the layout that `datasets` shows as images; JSONL
    names PNG files, written to images/ beside it.
    """
    path, records = check_output(path, records, "record")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(records, path, temporary)
        else:
            with temporary.open("w", encoding="utf-8") as file:
                for number, record in enumerate(records):
                    names = [f"{number:06d}", *(f"{number:06d}-{n}" for n in range(1, len(record.pictures)))]
                    named = [image_file(*each, path) for each in zip(record.pictures, names, strict=False)]
                    file.write(_line(record, named) + "\n")
    return path


def check_output(path: str | os.PathLike[str], rows: Iterable[Row], what: str) -> tuple[Path, Iterator[Row]]:
    """The path of a file of rows, and the rows. InputError for another type of file, and where there is no row."""
    path = Path(path)
    if path.suffix.lower() not in (".jsonl", ".parquet"):
        raise InputError(f"{path}: unknown file type {path.suffix!r}; expected .jsonl or .parquet")
    remaining = iter(rows)
    for first in remaining:
        return path, chain([first], remaining)
    raise InputError(f"{path}: there is no {what} to write")


def parts_of(rows: Iterator[Row], pictures: Callable[[Row], Sequence[ImageSource]]) -> Iterator[list[Row]]:
    """The rows of one Parquet row group after the other. `pictures`: those of a row."""
    return together(rows, ROW_GROUP, _BYTES, lambda row: sum(map(_bytes_of, pictures(row))))


def _bytes_of(image: ImageSource) -> int:
    """Bytes that a picture takes in memory while it is written, about."""
    if isinstance(image, Image):
        return image.width * image.height * len(image.getbands())
    return len(image) if isinstance(image, bytes) else image.size if isinstance(image, PackedImage) else 0


def _line(record: Record, pictures: list[str]) -> str:
    row = {key: value for key, value in _fields(record, pictures).items() if value not in (None, {}, [])}
    if "images" in row:
        row.setdefault("scores", {})  # tells it from a pair of preferences, which has votes
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _fields(record: Record, pictures: list[Any]) -> dict[str, Any]:
    return {
        "id": record.id,
        "prompt": record.prompt,
        "image": pictures[0] if len(pictures) == 1 else None,
        "images": pictures if len(pictures) > 1 else None,
        "answer": record.answer,
        "scores": record.scores,
        "stds": record.stds,
        "group": record.group,
        "split": record.split,
        "rubric_version": record.rubric_version,
        "tags": list(record.tags),
    }


def _write_parquet(records: Iterator[Record], path: Path, temporary: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    narrow = temporary.with_name(f"{temporary.name}.narrow")
    parts: Iterator[list[Record]] = parts_of(records, lambda record: record.pictures)
    with pq.ParquetWriter(temporary, _schema(False)) as writer:
        for part in parts:
            if not all(map(_is_plain, part)):
                parts = chain([part], parts)
                break
            writer.write_table(_table(part, path.parent, writer.schema))
        else:
            return
    os.replace(temporary, narrow)
    try:
        with pq.ParquetFile(narrow) as before, pq.ParquetWriter(temporary, _schema(True)) as writer:
            for group in range(before.num_row_groups):
                rows = before.read_row_group(group).to_pylist()
                writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))
            for part in parts:
                writer.write_table(_table(part, path.parent, writer.schema))
    finally:
        narrow.unlink()


def _is_plain(record: Record) -> bool:
    """Whether it is of one picture alone: most files hold nothing else, and have no column for more."""
    return record.image is not None and record.answer is None


def _table(records: list[Record], folder: Path, schema: Any) -> Any:
    import pyarrow as pa

    rows = []
    for record in records:
        row = _fields(record, [image_struct(picture, folder) for picture in record.pictures])
        rows.append(row | {key: json.dumps(row[key], ensure_ascii=False) for key in ("scores", "stds")})
    return pa.Table.from_pylist(rows, schema=schema)


def _schema(wide: bool) -> Any:
    """Column types, with the note by which `datasets` knows that `image` holds images. `wide`: also `images` and `answer`."""
    import pyarrow as pa

    text = pa.string()
    types = dict.fromkeys(("id", "prompt", "scores", "stds", "group", "split", "rubric_version"), text)
    picture = pa.struct([("bytes", pa.binary()), ("path", text)])
    types |= {"image": picture, "tags": pa.list_(text)}
    value = {"dtype": "string", "_type": "Value"}
    notes: dict[str, Any] = {"image": {"_type": "Image"}, "tags": {"feature": value, "_type": "List"}}
    if wide:
        types |= {"images": pa.list_(picture), "answer": text}
        notes["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    features = {name: notes.get(name, value) for name in types}
    return pa.schema(list(types.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})


def image_struct(image: ImageSource, folder: Path) -> dict[str, Any]:
    """A picture as the Hugging Face struct {bytes, path}, paths relative to `folder` where they are below it."""
    if isinstance(image, str):
        return {"bytes": None, "path": _relative(image, folder)}
    return {"bytes": encoded(image) if isinstance(image, bytes | PackedImage) else _png(image), "path": None}


def image_file(image: ImageSource, name: str, path: Path) -> str:
    """The path under which the file PATH names a picture; one in memory is written to images/STEM-NAME.png beside it."""
    if isinstance(image, str):
        return _relative(image, path.parent)
    own = f"images/{path.stem}-{name}.png"
    with atomic_path(path.parent / own) as temporary:
        temporary.write_bytes(_png(image))
    return own


def _png(image: ImageSource) -> bytes:
    buffer = io.BytesIO()
    open_image(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _relative(image: str, folder: Path) -> str:
    absolute, base = Path(os.path.abspath(image)), Path(os.path.abspath(folder))
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)
