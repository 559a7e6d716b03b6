"""What `zreward data check` finds in a file of preferences: counts, and errors that training or a comparison would hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.data.checking import NO_SPLIT, Findings, check_overlap
from zreward.data.preference import OVERALL, TIE, Preference, check_images, preferences_of, records_of
from zreward.data.preference_files import LAYOUT
from zreward.data.record import Record
from zreward.data.sources import read_rows
from zreward.rubric import Rubric


def check_preferences(source: Path, rubric: Rubric | None = None) -> Findings:
    """Read every preference, open every picture. InputError only where the file as a whole cannot be read.

    `Findings.records` are the pictures, each once for a prompt.
    """
    found = Findings()
    preferences: list[Preference] = []
    pictures: dict[tuple[Any, ...], tuple[Record, str]] = {}
    places: dict[str, str] = {}
    for row in tqdm(read_rows(source, LAYOUT), f"checking {source.name}", unit=" lines", disable=None):
        try:
            if row.data is None:
                raise InputError(row.error)
            line = preferences_of(row.data, source.parent)
            check_images(line)
        except InputError as error:
            found.errors.append(f"{row.place}: {error}")
            continue
        if (name := line[0].id) is not None and places.setdefault(name, row.place) != row.place:
            found.errors.append(f"{row.place}: id {name!r} is that of {places[name]} already")
        preferences += line
        for record in records_of(line):
            pictures.setdefault((record.prompt, record.split, record.group, record.image), (record, row.place))
    if not preferences and not found.errors:
        raise InputError(f"{source}: it is empty; expected at least one preference")
    found.records = [record for record, _ in pictures.values()]
    check_overlap(found, [place for _, place in pictures.values()])
    found.counts = list(_counts(preferences))
    found.raters = dict(
        Counter(rater for one in preferences for name in one.votes for rater in one.raters(name)).most_common()
    )
    if rubric is not None:
        known = (*rubric.dimension_names, OVERALL)
        strange = dict.fromkeys(row["dimension"] for row in found.counts if row["dimension"] not in known)
        found.errors += [f"votes on {name!r}, which the rubric {rubric.name!r} does not have" for name in strange]
    if preferences and not found.counts:
        found.notes.append("no pair has a vote: nothing to train or evaluate on")
    return found


def _counts(preferences: Sequence[Preference]) -> Iterator[dict[str, Any]]:
    """A row for every dimension and split: pairs, votes for each side, ties, and pairs without a winner."""
    for name in dict.fromkeys(name for one in preferences for name in one.votes):
        for split in sorted({one.split or NO_SPLIT for one in preferences}):
            part = [
                votes
                for one in preferences
                if (one.split or NO_SPLIT) == split and (votes := one.counts(name)) is not None
            ]
            if part:
                cast = {
                    "for a": sum(votes.a for votes in part),
                    "for b": sum(votes.b for votes in part),
                    "ties": sum(votes.tie for votes in part),
                }
                undecided = sum(votes.winner == TIE for votes in part)
                yield {"dimension": name, "split": split, "pairs": len(part), **cast, "no winner": undecided}
