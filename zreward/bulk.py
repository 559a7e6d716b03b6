"""Scores of a whole data set, streamed: records in, a Parquet file of distributions out.

Rows are scored in shards of SHARD; a shard is written whole, into OUT.parts/. A run that was killed goes on after the last whole
shard; at the end the shards become OUT and the folder goes. Memory holds one shard, whatever the number of rows.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from zreward.data.record import Record
from zreward.data.sources import Row, read_rows
from zreward.errors import InputError, counted
from zreward.files import atomic_path, write_json
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reward_model import RewardModel

SHARD = 512  # rows


def score_data(
    model: RewardModel,
    source: Any,
    out: Path,
    dimensions: Sequence[str] | None = None,
    batch_size: int = 32,
    skip_bad: bool = False,
) -> int:
    """Score a .jsonl or .parquet file of records, or a `datasets.Dataset`, into the Parquet file `out`; the number of rows.

    Columns: row (its number in the source), id, prompt, image (its path, null for bytes), error, and for every dimension
    NAME_mean, NAME_std and NAME_probs (S probabilities, lowest score first). Ratings in the source are not read.

    Raises InputError, with the row, for the first one that cannot be scored; with `skip_bad` it keeps its place and
    `error` says why. Also for an `out` that exists, and for parts of another model, source or other options.
    """
    names = model.check_dimensions(dimensions)
    if out.exists():
        raise InputError(f"{out} is there already; choose another --out, or delete it")
    if out.suffix.lower() != ".parquet":
        raise InputError(f"{out}: expected a file name that ends in .parquet")
    parts = out.with_name(out.name + ".parts")
    _check_manifest(parts, _manifest(model, source, names, skip_bad))
    schema = _schema(names)
    folder = Path(source).parent if isinstance(source, str | os.PathLike) else Path()
    rows, total = iter(read_rows(source)), 0
    with tqdm(desc="scoring", unit="image") as bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for number in itertools.count():
            chunk = list(itertools.islice(rows, SHARD))
            if not chunk:
                break
            total += len(chunk)
            part = parts / f"part-{number:06d}.parquet"
            if not part.exists():
                opened = threads.map(lambda row: _open(row, folder), chunk)
                table = pa.Table.from_pylist(list(_scored(model, opened, names, batch_size, skip_bad)), schema)
                with atomic_path(part) as temporary:
                    pq.write_table(table, temporary)
            bar.update(len(chunk))
    if not total:
        shutil.rmtree(parts)
        raise InputError(f"{source}: it is empty; expected at least one record")
    _join(parts, out, schema)
    return total


Opened = tuple[Row, Record | None, Image.Image | None, str | None]


def _open(row: Row, folder: Path) -> Opened:
    """The row's record and picture, or why there is none."""
    try:
        if row.data is None:
            raise InputError(row.error)
        record = Record.from_dict(dict(row.data) | {"scores": None, "stds": None}, folder)
        return row, record, record.open_image(), None
    except InputError as error:
        return row, None, None, str(error)


def _scored(
    model: RewardModel, opened: Iterator[Opened], names: tuple[str, ...], batch_size: int, skip_bad: bool
) -> Iterator[dict[str, Any]]:
    while batch := list(itertools.islice(opened, batch_size)):
        bad = next((one for one in batch if one[3] is not None), None)
        if bad and not skip_bad:
            raise InputError(f"{bad[0].place}: {bad[3]}\ncorrect it, or go on past such rows with --skip-bad")
        good = [(record, picture) for _, record, picture, _ in batch if record is not None]
        rows = [row.number for row, record, _, _ in batch if record is not None]
        with counted(rows):
            scores = iter(
                model.score([p for _, p in good], [r.prompt for r, _ in good], names, batch_size).to_dicts()
                if good
                else ()
            )
        for row, record, _, error in batch:
            facts: dict[str, Any] = {"row": row.number, "error": error}
            if record is not None:
                image = record.image if isinstance(record.image, str) else None
                facts |= {"id": record.id, "prompt": record.prompt, "image": image}
                for name, score in next(scores).items():
                    facts |= {f"{name}_{key}": value for key, value in score.items()}
            yield facts


def _schema(names: Sequence[str]) -> pa.Schema:
    columns: list[tuple[str, Any]] = [
        ("row", pa.int64()),
        *((name, pa.string()) for name in ("id", "prompt", "image", "error")),
    ]
    for name in names:
        columns += [
            (f"{name}_mean", pa.float32()),
            (f"{name}_std", pa.float32()),
            (f"{name}_probs", pa.list_(pa.float32())),
        ]
    return pa.schema(columns)


def _manifest(model: RewardModel, source: Any, names: Sequence[str], skip_bad: bool) -> dict[str, Any]:
    facts = {"weights": weights_fingerprint(model), "dimensions": list(names), "skip_bad": skip_bad, "shard": SHARD}
    if isinstance(source, str | os.PathLike) and Path(source).exists():
        state = Path(source).stat()
        return facts | {"source": str(source), "bytes": state.st_size, "modified": state.st_mtime_ns}
    return facts | {"source": str(source)}


def _check_manifest(parts: Path, manifest: dict[str, Any]) -> None:
    file = parts / "manifest.json"
    if not file.exists():
        parts.mkdir(parents=True, exist_ok=True)
        write_json(file, manifest)
        return
    different = [key for key, value in json.loads(file.read_text()).items() if manifest.get(key) != value]
    if different:
        raise InputError(
            f"{parts} holds scores of another run (different: {', '.join(different)}); delete it, or choose another --out"
        )


def _join(parts: Path, out: Path, schema: pa.Schema) -> None:
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in sorted(parts.glob("part-*.parquet")):
            writer.write_table(pq.read_table(part))
    shutil.rmtree(parts)
