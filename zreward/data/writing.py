"""Writing records: JSONL or Parquet, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zreward.data.files import atomic_path
from zreward.data.reading import encoded
from zreward.data.record import Record
from zreward.errors import InputError


def save_records(records: Sequence[Record], path: str | os.PathLike[str]) -> Path:
    """Write `records` to PATH (.jsonl or .parquet) so that `load_records` gives them back.

    Parquet holds image bytes inside the file. JSONL holds paths: images in memory go to PNG files in images/ beside it, and
    paths are written relative to it where they can be.
    """
    path = Path(path)
    if path.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{path}: unknown file type {path.suffix!r}; expected .jsonl or .parquet")
    if not records:
        raise InputError(f"{path}: there is no record to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [_row(record, _struct(record, path.parent), as_text=True) for record in records]
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), temporary)
    else:
        lines = [json.dumps(_row(r, _file(r, n, path), as_text=False)) + "\n" for n, r in enumerate(records)]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    return path


def _row(record: Record, image: Any, as_text: bool) -> dict[str, Any]:
    row = {
        "id": record.id,
        "prompt": record.prompt,
        "image": image,
        "scores": record.scores,
        "stds": record.stds,
        "group": record.group,
        "split": record.split,
        "rubric_version": record.rubric_version,
        "tags": list(record.tags),
    }
    if as_text:
        return row | {key: json.dumps(row[key]) for key in ("scores", "stds")}
    return {key: value for key, value in row.items() if value not in (None, {}, [])}


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    fields = {"id": text, "prompt": text, "image": image, "scores": text, "stds": text, "group": text, "split": text}
    return pa.schema([*fields.items(), ("rubric_version", text), ("tags", pa.list_(text))])


def _struct(record: Record, folder: Path) -> dict[str, Any]:
    image = record.image
    if isinstance(image, str):
        return {"bytes": None, "path": _relative(image, folder)}
    return {"bytes": encoded(image) if isinstance(image, Image.Image) else image, "path": None}


def _file(record: Record, number: int, path: Path) -> str:
    image = record.image
    if isinstance(image, str):
        return _relative(image, path.parent)
    name = Path("images") / f"{path.stem}-{number:06d}.png"
    with atomic_path(path.parent / name) as temporary:
        temporary.write_bytes(encoded(image) if isinstance(image, Image.Image) else encoded(record.open_image()))
    return str(name)


def _relative(image: str, folder: Path) -> str:
    """A path below `folder` relative to it, any other absolute."""
    absolute, base = os.path.abspath(image), os.path.abspath(folder)
    return os.path.relpath(absolute, base) if absolute.startswith(base + os.sep) else absolute
