"""Published data sets in small: what tests of their importers share."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.tiny import noise_pictures
from zreward.data import Preference, Record, load_preferences, load_records
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer


def real_file(name: str) -> Path:
    """A file that a project published, at $ZREWARD_PUBLISHED/OWNER/REPOSITORY/PATH; skips where it is not."""
    path = Path(os.environ.get("ZREWARD_PUBLISHED", "published")) / name
    if not path.is_file():
        pytest.skip(
            f"{path} is not here; set ZREWARD_PUBLISHED to a folder of published files, each as OWNER/REPOSITORY/PATH"
        )
    return path


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    names = list(names)
    for name, picture in zip(names, noise_pictures(len(names), ((8, 8),)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise_pictures(1, ((8, 8),), seed)[0].save(buffer, "JPEG")
    return buffer.getvalue()


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def imported(name: str, root: Path, out: Path, **options: Any) -> list[Any]:
    """What the importer makes, after both kinds of file gave the same back."""
    importer = find_importer(name)
    load: Any = load_records if importer.makes is Record else load_preferences
    rows = run_importer(importer, root, out / "rows.jsonl", **options)
    table = run_importer(importer, root, out / "rows.parquet", **options)
    found = [load(done.path, check_images=False) for done in (rows, table)]
    assert rows.made == table.made == len(found[0])
    assert [as_compared(one) for one in found[0]] == [as_compared(one) for one in found[1]]
    return found[1]


def read_lines(path: Path) -> list[Record]:
    """Records of a JSONL file whose pictures are not here."""
    return [Record.from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def as_compared(one: Record | Preference) -> dict[str, Any]:
    """Its fields, with pictures in memory as their size: a JSONL file has them as PNG files beside it."""
    fields = dict(vars(one))
    images = fields.pop("images") if isinstance(one, Preference) else (fields.pop("image"),)
    return fields | {"images": [_compared_image(image) for image in images]}


def _compared_image(image: Any) -> Any:
    if isinstance(image, str) and Path(image).parent.name != "images":
        return image
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as picture:
        return picture.convert("RGB").tobytes()
