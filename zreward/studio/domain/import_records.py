"""The ratings of records, as labels of their raters.

Scores by name keep their raters' names. A list says nothing of who gave which: its places become "FILE rater 1", "FILE
rater 2"; a single score is that of "FILE". A mean with a published spread is nobody's score, and refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.aggregation import Scores
from zreward.data.images import encoded
from zreward.studio.domain.import_files import ForeignLabel

ENDINGS = (".jsonl", ".parquet")


def labels_of(records: Sequence[Record], name: str) -> list[ForeignLabel]:
    """`name` is the file's, without its ending. InputError for ratings that a studio cannot hold."""
    labels = []
    for number, record in enumerate(records, 1):
        place = f"{name}: record {record.id or number}"
        for dimension, scores in record.scores.items():
            if dimension in record.stds:
                raise InputError(
                    f"{place}: {dimension} is a mean with a standard deviation, and a studio holds what single people "
                    "said; export the single ratings, or make the project without ratings"
                )
            image = record.image if isinstance(record.image, str) else encoded(record.image)
            for rater, score in _by_rater(scores, name):
                labels.append(ForeignLabel(place, image, record.prompt, rater, dimension, score))
    return labels


def _by_rater(scores: Scores, name: str) -> Iterator[tuple[str, float | None]]:
    if isinstance(scores, Mapping):
        yield from scores.items()
    elif isinstance(scores, Sequence):
        yield from ((f"{name} rater {number}", score) for number, score in enumerate(scores, 1))
    else:
        yield name, scores
