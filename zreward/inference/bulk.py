"""Scores of a whole data set, streamed: records in, a Parquet file of distributions out.

Rows are scored in shards of SHARD, each written whole into OUT.parts/. An interrupted run continues after the last complete
shard, if its rows and pictures are unchanged; at the end the shards become OUT and the folder is removed. In a shard
the largest pictures come first, so that those of similar length share a batch. Memory holds a few batches of pictures.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from zreward.common.errors import InputError, NotFiniteError, counted, shorten
from zreward.common.files import atomic_path
from zreward.common.jobs import Found, refuse_jobs
from zreward.common.runs import RunDirectory, refuse_differences, say
from zreward.common.shards import Shards
from zreward.data.fingerprint import image_digest
from zreward.data.images import encoded
from zreward.data.packed import PackedImage
from zreward.data.record import Record
from zreward.data.record_table import record_facts
from zreward.data.sources import SourceRow, as_source, read_rows
from zreward.models.batch_size import DEFAULT
from zreward.models.batches import prefetch
from zreward.models.fingerprint import model_fingerprint, short_digest, weights_fingerprint_1
from zreward.models.reward_model import RewardModel
from zreward.prompting import Texts, judged_as

SHARD = 512  # rows
NOTE = b"zreward"  # key of the file's metadata
Part = tuple[str, list[SourceRow], str]
"""A shard: its file's name, its rows, and a digest of what it is made from."""
OTHER_SCORES, ADVICE = "scores of another run", "delete it, or choose another --out"


def score_data(
    model: RewardModel,
    source: Any,
    out: str | Path,
    dimensions: Sequence[str] | None = None,
    batch_size: int | None = None,
    skip_bad: bool = False,
) -> int:
    """Score a data set into a Parquet file. An interrupted call is continued by the same call.

    Columns: row (its number in the source), id, prompt, image (its path, SHARD/MEMBER in a tar, null for bytes), error, and for
    every dimension NAME_mean, NAME_std and NAME_probs (S probabilities, lowest score first). An `out` that holds exactly these
    scores is left alone.

    Args:
        model: the reward model.
        source: a name of records or a `Source` (`zreward.data.sources`), or a `datasets.Dataset`; ratings are not read.
        out: the .parquet file to write.
        dimensions: names; default all of the rubric.
        batch_size: images in a batch (default: as `RewardModel.score` chooses); it may change when a call is continued.
        skip_bad: a row that cannot be scored gets the reason in the column `error` instead of stopping.

    Returns:
        The number of rows.

    Raises:
        InputError: a row that cannot be scored; an `out`, or parts of it, of another model, other rows, pictures or
            options.
    """
    out, names = check_out(out), model.check_dimensions(dimensions)
    facts = facts_of(model, names, skip_bad)
    folder, parts = folder_of(source), parts_folder(out)
    if out.exists():
        return _keep_finished(out, parts, facts, source, folder)
    refuse_jobs(parts, out)
    with RunDirectory(parts).hold():
        older = partial(older_facts, model, names, source, skip_bad)
        shards = Shards(parts, facts, {"source": str(source)}, older, OTHER_SCORES, ADVICE)
        total, made = score_parts(model, shards, parts_of(source, folder), folder, names, batch_size, skip_bad)
        if not total:
            shutil.rmtree(parts)
            raise empty(source)
        join([(parts / name, shards.lines[name]) for name in made], out, facts)
        shutil.rmtree(parts)
    return total


def check_out(out: str | Path) -> Path:
    """InputError unless it is the name of a Parquet file."""
    if Path(out).suffix.lower() != ".parquet":
        raise InputError(f"{out}: expected a file name that ends in .parquet")
    return Path(out)


def score_parts(
    model: RewardModel,
    shards: Shards,
    parts: Iterable[Part],
    folder: Path,
    names: tuple[str, ...],
    batch_size: int | None,
    skip_bad: bool,
    title: str = "scoring",
) -> tuple[int, list[str]]:
    """Score what is missing of these parts. How many rows they have, and their names."""
    total, made, schema = 0, [], _schema(names)
    with tqdm(desc=title, unit="image") as bar:
        for name, rows, made_from in parts:
            if not shards.keep(name, made_from):
                scored = _scored(model, rows, folder, names, batch_size, skip_bad)
                shards.add(name, pa.Table.from_pylist(scored, schema), made_from)
            made.append(name)
            total += len(rows)
            bar.update(len(rows))
    return total, made


def empty(source: Any) -> InputError:
    return InputError(f"{source}: it is empty; expected at least one record")


def facts_of(model: RewardModel, names: Sequence[str], skip_bad: bool) -> dict[str, Any]:
    """What scores depend on besides rows and pictures."""
    return {"model": model_fingerprint(model), "dimensions": list(names), "skip_bad": skip_bad, "shard": SHARD}


def older_facts(model: RewardModel, names: Sequence[str], source: Any, skip_bad: bool) -> dict[str, Any]:
    """The same as version 0.1 recorded it, which knew rows and pictures by the source's size and date."""
    facts = {"weights": weights_fingerprint_1(model), "dimensions": list(names), "skip_bad": skip_bad, "shard": SHARD}
    named = as_source(source)
    if named is not None and named.is_one_file and Path(named.name).exists():
        state = Path(named.name).stat()
        return facts | {"bytes": state.st_size, "modified": state.st_mtime_ns}
    return facts | {"source": str(source)}


def folder_of(source: Any) -> Path:
    """Where the relative paths of a source start."""
    named = as_source(source)
    return named.folder if named is not None else Path()


def parts_folder(out: Path) -> Path:
    return out.with_name(out.name + ".parts")


def parts_of(source: Any, folder: Path) -> Iterator[Part]:
    """Shard by shard: its file's name, its rows, and a digest of these and of their pictures' contents."""
    return digested(enumerate(chunks_of(source)), folder)


def chunks_of(source: Any) -> Iterator[list[SourceRow]]:
    """The rows of one shard after the other."""
    rows = iter(read_rows(source))
    while chunk := list(itertools.islice(rows, SHARD)):
        yield chunk


def digested(chunks: Iterable[tuple[int, list[SourceRow]]], folder: Path) -> Iterator[Part]:
    """`parts_of` for some shards by their number."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for number, chunk in chunks:
            yield name_of(number), chunk, short_digest(list(threads.map(lambda row: _row_digest(row, folder), chunk)))


def name_of(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _row_digest(row: SourceRow, folder: Path) -> list[Any]:
    """What a row's scores depend on, or why it can have none."""
    try:
        record = _record(row, folder)
        return [
            row.number,
            record.id,
            *record_facts(record.prompt, record.answer, [*map(image_digest, record.pictures)]),
        ]
    except InputError as error:
        return [row.number, str(error)]


def _record(row: SourceRow, folder: Path) -> Record:
    if row.data is None:
        raise InputError(row.error)
    return Record.from_dict(dict(row.data) | {"scores": None, "stds": None}, folder)


Opened = tuple[SourceRow, Record | None, list[Image.Image], str | None]


def open_row(row: SourceRow, folder: Path) -> Opened:
    """The row's record and pictures, or why there are none."""
    try:
        record = _record(row, folder)
        return row, record, record.open_images(), None
    except InputError as error:
        return row, None, [], str(error)


def _scored(
    model: RewardModel,
    rows: Sequence[SourceRow],
    folder: Path,
    names: tuple[str, ...],
    batch_size: int | None,
    skip_bad: bool,
) -> list[dict[str, Any]]:
    """The rows of a shard with their scores, in the order of the source."""
    order = sorted(range(len(rows)), key=lambda n: _size(rows[n], folder), reverse=True)
    found: dict[int, dict[str, Any]] = {}
    size = 2 * (batch_size or DEFAULT)
    windows = prefetch(lambda n: open_row(rows[n], folder), order, size)
    for start, window in zip(itertools.count(0, size), windows, strict=False):
        bad = next((one for one in window if one[3] is not None), None)
        if bad and not skip_bad:
            raise refused(bad[0], bad[3])
        good = [(record, pictures) for _, record, pictures, _ in window if record is not None]
        with counted([row.number for row, record, _, _ in window if record is not None]):
            scores = iter(_scores(model, good, names, batch_size))
        for n, (row, record, _, error) in zip(order[start:], window, strict=False):
            found[n] = {"row": row.number, "error": error}
            if record is not None:
                last = record.pictures[-1] if record.pictures else None
                image = str(last) if isinstance(last, str | PackedImage) else None
                found[n] |= {"id": record.id, "prompt": record.prompt, "image": image}
                score = next(scores)
                if isinstance(score, InputError):
                    if not skip_bad:
                        raise refused(row, score)
                    found[n] = {"row": row.number, "error": str(score)}
                    continue
                for name, values in score.items():
                    found[n] |= {f"{name}_{key}": value for key, value in values.items()}
    return [found[n] for n in range(len(rows))]


def refused(row: SourceRow, why: Any) -> InputError:
    return InputError(f"{row.place}: {why}\ncorrect it, or skip such rows with --skip-bad")


def _scores(
    model: RewardModel, good: Sequence[tuple[Record, Any]], names: tuple[str, ...], batch_size: int | None
) -> list[dict[str, Any] | InputError]:
    """The scores of each, or why the model refuses it: its prompt may be too long.

    A model that answers NaN is no fault of a row: NotFiniteError.
    """
    if not good:
        return []
    try:
        texts = [Texts(record.prompt, record.answer) for record, _ in good]
        images, prompts, options = judged_as([tuple(pictures) for _, pictures in good], texts)
        return list(model.score(images, prompts, names, batch_size, **options).to_dicts())
    except NotFiniteError:
        raise
    except InputError as error:
        if len(good) == 1:
            return [error]
    middle = len(good) // 2  # one bad row among many is found in a few passes
    found = _scores(model, good[:middle], names, batch_size)
    with counted(middle):
        return found + _scores(model, good[middle:], names, batch_size)


def _size(row: SourceRow, folder: Path) -> tuple[int, int]:
    """Pixels of a row's pictures by their headers, letters of its texts: about how long it is for the model. 0 where unknown."""
    letters = 0
    try:
        record = _record(row, folder)
        letters, pixels = len(record.prompt) + len(record.answer or ""), 0
        for image in record.pictures:
            with Image.open(image if isinstance(image, str) else io.BytesIO(encoded(image))) as header:
                pixels += header.width * header.height
        return pixels, letters
    except Exception:  # opening the picture reports what is wrong; here only the order matters
        return 0, letters


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


def join(parts: Sequence[Found], out: Path, facts: Mapping[str, Any]) -> None:
    """All shards as one file, with what they depend on in its metadata, the shards' digests included."""
    made_from = short_digest([line["made_from"] for _, line in parts])
    noted = _schema(facts["dimensions"]).with_metadata({NOTE: json.dumps(dict(facts) | {"records": made_from})})
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, noted, write_page_checksum=True) as writer:
        for file, _ in parts:
            writer.write_table(pq.read_table(file).cast(noted))


def _keep_finished(out: Path, parts: Path, facts: dict[str, Any], source: Any, folder: Path) -> int:
    """The rows of a finished `out`, which is left alone; InputError where it holds other scores, or is damaged."""
    rows = check_finished(out, facts, [made_from for _, _, made_from in parts_of(source, folder)])
    if parts.exists():  # a kill fell between the last two steps
        with RunDirectory(parts).hold():
            shutil.rmtree(parts)
    say(f"{out} is finished: nothing to do")
    return rows


def check_finished(out: Path, facts: Mapping[str, Any], made_from: Sequence[str] | None) -> int:
    """The rows of an `out` that holds just the scores that are asked for. InputError for any other, and for a damaged one.

    `made_from`: every shard's digest; None where not all are known.
    """
    advice = "choose another --out, or delete it"
    try:
        with pq.ParquetFile(out, page_checksum_verification=True) as file:
            note, rows = (file.schema_arrow.metadata or {}).get(NOTE), file.metadata.num_rows
            stored = json.loads(note) if note else None
            for _ in file.iter_batches():  # checks what the checksums are of
                pass
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = "it is empty" if out.is_file() and not out.stat().st_size else shorten(str(error).split("\n")[0])
        raise InputError(f"{out} is there already, and no whole Parquet file ({reason}); {advice}") from None
    if not isinstance(stored, dict):
        raise InputError(
            f"{out} is there already, without a note of its origin: an older zreward or another program made it; {advice}"
        )
    now = dict(facts) | ({} if made_from is None else {"records": short_digest(list(made_from))})
    refuse_differences(f"{out} is there already, with other scores", {key: stored.get(key) for key in now}, now, advice)
    return rows
