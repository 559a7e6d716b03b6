"""ImageRewardDB (arXiv 2304.05977): ranked lists of pictures from DiffusionDB, and ratings of each picture.

Sources of the layout: the data card of the hub's THUDM/ImageRewardDB (fields, an example row) and its loader
ImageRewardDB.py; github.com/THUDM/ImageReward, data/test.json, test.py and train/src/rank_pair_dataset.py (`generations`
and `ranking`, 1 the best, equal for a tie).

Two importers: `imagerewarddb` makes a preference of every pair of a prompt's ranked pictures; `imagerewarddb-ratings` makes
a record of every picture, with the published ratings of 1 to 7. The metadata files hold one row per
picture; the pictures of split S, part N are in images/S/S_N.zip, to be unpacked into images/S/S_N/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zreward.common.errors import InputError
from zreward.data.fields import plain_list, plain_text
from zreward.data.images import ImageSource
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows, parquet_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import whole_number
from zreward.data.preference import Preference, ranked
from zreward.data.record import Record

RATINGS = {  # column -> dimension
    "overall_rating": "overall",
    "image_text_alignment_rating": "alignment",
    "fidelity_rating": "fidelity",
}
LOWEST, HIGHEST = 1, 7
DIMENSIONS = {
    "overall": Published(LOWEST, HIGHEST, "How good is the image, all in all?", "Very bad.", "Very good."),
    "alignment": Published(
        LOWEST,
        HIGHEST,
        "How well does the image match the prompt?",
        "It shows nothing of it.",
        "It matches completely.",
    ),
    "fidelity": Published(
        *(LOWEST, HIGHEST, "Do objects have the shape and the features that they should have?"),
        *("Everything is deformed.", "Everything is as it should be."),
    ),
}
_ROW = ("image_path", "prompt_id", "prompt", "classification")
_LAYOUT = "metadata-SPLIT.parquet and images/SPLIT/SPLIT_N/*.webp (SPLIT_N.zip unpacked)"
_CARD = "data card and loader of the hub"


class _Ranked(NamedTuple):
    prompt_id: str
    prompt: str
    category: str
    image: ImageSource
    rank: int


@dataclass
class _List:
    """The pictures of one prompt."""

    prompt: str
    tags: tuple[str, ...]
    images: list[ImageSource] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)


def _read_ranks(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("metadata-*.parquet", "*.json"):
        if file.suffix.lower() == ".json":
            for pairs in reading.each(json_rows(file), partial(_generations, reading, _split_of(file))):
                yield from pairs
        else:
            yield from _metadata_ranks(reading, file)


def _metadata_ranks(reading: Reading, file: Path) -> Iterator[Preference]:
    """Rows of one prompt need not follow each other: the lists of a file are put together before any is given out."""
    lists: dict[str, _List] = {}
    for row in reading.each(parquet_rows([file], (*_ROW, "rank")), partial(_ranked_picture, reading)):
        one = lists.setdefault(row.prompt_id, _List(row.prompt, _tags(row.category)))
        one.images.append(row.image)
        one.ranks.append(row.rank)
    for name, one in lists.items():
        if len(one.images) > 1:
            split = _split_of(file)
            yield from ranked(one.prompt, one.images, one.ranks, id=f"{split}/{name}", split=split, tags=one.tags)


def _ranked_picture(reading: Reading, row: Mapping[str, Any]) -> _Ranked:
    image = reading.picture(row["image_path"], "image_path")
    rank = whole_number(row["rank"], "rank", lowest=1)
    prompt = plain_text(row["prompt"], "prompt")
    return _Ranked(plain_text(row["prompt_id"], "prompt_id"), prompt, row["classification"] or "", image, rank)


def _generations(reading: Reading, split: str, row: Mapping[str, Any]) -> list[Preference]:
    """A row of the repository's data/test.json."""
    for key in ("id", "prompt", "generations", "ranking"):
        if key not in row:
            raise InputError(f"missing {key!r}")
    images = [reading.picture(image, "generations") for image in plain_list(row["generations"], "generations")]
    ranks = [whole_number(rank, "ranking", lowest=1) for rank in plain_list(row["ranking"], "ranking")]
    name = f"{split}/{plain_text(row['id'], 'id')}"
    return list(ranked(plain_text(row["prompt"], "prompt"), images, ranks, id=name, split=split))


def _read_ratings(reading: Reading) -> Iterator[Record]:
    for file in reading.files("metadata-*.parquet"):
        yield from reading.each(
            parquet_rows([file], (*_ROW, *RATINGS)), partial(_rated_picture, reading, _split_of(file))
        )


def _rated_picture(reading: Reading, split: str, row: Mapping[str, Any]) -> Record:
    image = reading.picture(row["image_path"], "image_path")
    scores = {name: whole_number(row[column], column, LOWEST, HIGHEST) for column, name in RATINGS.items()}
    prompt, group = plain_text(row["prompt"], "prompt"), plain_text(row["prompt_id"], "prompt_id")
    name = Path(row["image_path"]).with_suffix("").as_posix()
    tags = _tags(row["classification"] or "")
    return Record(prompt, image, scores, group=group, split=split, tags=tags, id=name)


def _split_of(file: Path) -> str:
    return file.stem.removeprefix("metadata-")


def _tags(category: str) -> tuple[str, ...]:
    return (f"category:{category}",) if category else ()


RANKS = Importer(
    name="imagerewarddb",
    title="ImageRewardDB",
    source="hub THUDM/ImageRewardDB; github.com/THUDM/ImageReward",
    licence="Apache-2.0",
    layout=f"{_LAYOUT}, or the repository's data/test.json with --images",
    holds="4 to 9 pictures of a prompt (DiffusionDB), ranked by experts; train, validation, test",
    targets="preferences, overall: every pair of a ranked list; equal ranks are ties",
    missing="who ranked; which model made a picture",
    checked=f"{_CARD}; data/test.json of the repository (22 of its lists were seen, 9 imported)",
    makes=Preference,
    read=_read_ranks,
)
RATED = Importer(
    name="imagerewarddb-ratings",
    title="ImageRewardDB, ratings",
    source=RANKS.source,
    licence=RANKS.licence,
    layout=_LAYOUT,
    holds="the experts' ratings of the same pictures",
    targets="records: overall, alignment, fidelity, from 1-7",
    missing="single raters' ratings",
    checked=_CARD,
    makes=Record,
    read=_read_ratings,
    dimensions=DIMENSIONS,
)
