"""What a benchmark asks about: rated pictures, or pairs of pictures with votes.

N pictures, each asked about once however many pairs it stands in; P pairs; D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zreward.bench.tables import Table
from zreward.common.errors import InputError
from zreward.data.preference import Preference
from zreward.data.preference_files import holds_preferences, load_preferences
from zreward.data.reading import load_records
from zreward.data.record import Record
from zreward.evaluation.preference_prediction import distinct_pictures


@dataclass(frozen=True)
class Suite:
    """A benchmark, read.

    Args:
        name: as on the command line.
        official: key of the figure that its publishers report, one of `zreward.bench.figures`.
        source: where the official metric is defined; empty for a file of one's own.
        pictures: [N], each once.
        preferences: [P], empty where pictures are rated.
        tuning: other pairs, on which a tie threshold is chosen.
        labels: [P] the benchmark's own labels, where they say more than a, b or tie.
        unkeyed: the table of ratings behind it, if its rows are known by their number only.
    """

    name: str
    official: str
    source: str
    pictures: Sequence[Record]
    preferences: Sequence[Preference] = ()
    tuning: Suite | None = field(default=None, repr=False)
    labels: Sequence[str] | None = field(default=None, repr=False)
    unkeyed: Table | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        return "pairs" if self.preferences else "pictures"

    @property
    def items(self) -> Sequence[Any]:
        """What the figures count: pairs, or rated pictures."""
        return self.preferences or self.pictures

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Of the votes or the ratings, in the order of their first appearance."""
        if self.preferences:
            return tuple(dict.fromkeys(name for one in self.preferences for name in one.votes))
        return tuple(dict.fromkeys(name for one in self.pictures for name in one.scores if one.ratings(name)))

    @property
    def prompts(self) -> int:
        return len({record.group_key for record in self.pictures})


def rated_suite(name: str, records: Sequence[Record], official: str = "srcc", source: str = "") -> Suite:
    """InputError where no record is rated, and where one is not a single picture."""
    for record in records:
        record.only_image(f"suite {name}")
    suite = Suite(name, official, source, records)
    if not suite.dimensions:
        raise InputError(f"suite {name}: none of its {len(records):,} records is rated")
    return suite


def preference_suite(
    name: str,
    preferences: Sequence[Preference],
    official: str = "accuracy",
    source: str = "",
    tuning: Sequence[Preference] = (),
) -> Suite:
    """InputError where no pair has votes."""
    pictures, _ = distinct_pictures(preferences)
    other = preference_suite(name, tuning, official, source) if tuning else None
    suite = Suite(name, official, source, pictures, list(preferences), other)
    if not suite.dimensions:
        raise InputError(f"suite {name}: none of its {len(preferences):,} pairs has votes")
    return suite


def read_own(name: str, path: Path, split: str | None, check_images: bool | None = True) -> Suite:
    """A suite of records or preferences in our own files (.jsonl, .parquet).

    Of preferences, those of the split "dev" or "validation", where `split` is another one, are for the tie threshold.

    Args:
        name: of the suite.
        path: the file.
        split: keep only these.
        check_images: as `load_records` takes it, of the pictures that are measured or tuned on; None: they need not exist.

    Raises:
        InputError: what `load_records` and `load_preferences` refuse; nothing rated, no votes.
    """
    if not holds_preferences(path):
        records = load_records(path, split=split, check_images=check_images)
        return rated_suite(name, records)
    if split is None:
        return preference_suite(name, load_preferences(path, check_images=check_images))
    chosen = load_preferences(path, check_images=check_images, split=split)
    splits = {one.split for one in load_preferences(path, check_images=None)} - {split}
    dev = [
        one
        for other in ("dev", "validation")
        if other in splits
        for one in load_preferences(path, check_images=check_images, split=other)
    ]
    return preference_suite(name, chosen, tuning=dev)
