"""What `zreward data check` finds in a file of records: counts, and errors that training or a comparison would hit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.data.images import pixel_hashes
from zreward.data.pairs import mine_pairs
from zreward.data.record import Record
from zreward.data.sources import Source, read_rows
from zreward.data.splits import normalised
from zreward.rubric import Rubric

NO_SPLIT = "(none)"
SHOWN = 20  # faults of one kind that are named


@dataclass
class Findings:
    """`errors` must be corrected; `notes` should be checked. `counts` has a row for every dimension and split."""

    records: list[Record] = field(default_factory=list)
    prompts: int = 0
    counts: list[dict[str, Any]] = field(default_factory=list)
    raters: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_records(source: Path | Source, rubric: Rubric | None = None) -> Findings:
    """Read every record, open every picture. InputError only where the file as a whole cannot be read."""
    found, source = Findings(), Source(str(source)) if isinstance(source, Path) else source
    places: list[str] = []
    for row in tqdm(read_rows(source), f"checking {Path(source.name).name}", unit=" records", disable=None):
        try:
            if row.data is None:
                raise InputError(row.error)
            record = Record.from_dict(row.data, source.folder)
            record.check_image()
            found.records.append(record)
            places.append(row.place)
            if rubric is not None:
                record.validate(rubric)
        except InputError as error:
            found.errors.append(f"{row.place}: {error}")
    if not found.records and not found.errors:
        raise InputError(f"{source}: it is empty; expected at least one record")
    _check_ids(found, places)
    check_overlap(found, places)
    _count(found, rubric)
    return found


def _check_ids(found: Findings, places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for record, place in zip(found.records, places, strict=True):
        if record.id is not None and first.setdefault(record.id, place) != place:
            found.errors.append(f"{place}: id {record.id!r} is that of {first[record.id]} already")


def check_overlap(found: Findings, places: Sequence[str]) -> None:
    """Prompts, groups and pictures that are in two splits, and pictures that are there twice."""
    _check_prompts(found)
    _check_pictures(found, places)


def _check_prompts(found: Findings) -> None:
    """A prompt, or a group, in two splits: what is learned there is asked for in the test."""
    prompts: dict[str, dict[str, str]] = defaultdict(dict)  # normalised -> split -> as written
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for record in found.records:
        split = record.split or NO_SPLIT
        prompts[normalised(record.prompt)].setdefault(split, record.prompt)
        if record.group is not None:
            groups[record.group].setdefault(split, record.prompt)
    found.prompts = len(prompts)
    torn = [texts for texts in prompts.values() if len(texts) > 1]
    _name_some(found.errors, [f"prompt {_first(t)!r} is in the splits {', '.join(t)}" for t in torn], "prompts")
    apart = [t for t in groups.values() if len(t) > 1 and len({normalised(p) for p in t.values()}) > 1]
    lines = [f"one group holds {' and '.join(f'{p!r} ({s})' for s, p in t.items())}" for t in apart]
    _name_some(found.errors, lines, "groups")
    if torn or apart:
        found.notes.append("zreward data split deals whole prompts and groups to splits")


def _check_pictures(found: Findings, places: Sequence[str]) -> None:
    same: dict[Any, list[int]] = defaultdict(list)
    places_of = [index for index, record in enumerate(found.records) for _ in record.pictures]
    hashes = pixel_hashes(picture for record in found.records for picture in record.pictures)
    for index, digest in zip(places_of, hashes, strict=True):
        if same[digest][-1:] != [index]:
            same[digest].append(index)
    across, twice, shared = [], [], []
    for members in same.values():
        if len(members) < 2:
            continue
        where = ", ".join(places[index] for index in members[:4])
        splits = {found.records[index].split or NO_SPLIT for index in members}
        prompts = [normalised(found.records[index].prompt) for index in members]
        if len(splits) > 1:
            across.append(f"the same picture is in the splits {', '.join(sorted(splits))}: {where}")
        elif len(set(prompts)) < len(prompts):
            twice.append(f"the same picture of the same prompt: {where}")
        else:
            shared.append(f"the same picture of {len(prompts)} prompts: {where}")
    _name_some(found.errors, across, "pictures")
    _name_some(found.notes, twice, "pictures")
    _name_some(found.notes, shared, "pictures")


def _count(found: Findings, rubric: Rubric | None) -> None:
    """Rows of counts for every dimension and split; raters; scores between bins, dimensions that nobody rates."""
    rated = dict.fromkeys(name for record in found.records for name in record.scores if record.ratings(name))
    splits = sorted({record.split or NO_SPLIT for record in found.records})
    pairs: Counter[tuple[str, str]] = Counter()
    if rated:
        for pair in mine_pairs(found.records):
            pairs[pair.dimension, found.records[pair.winner].split or NO_SPLIT] += 1
    raters: Counter[str] = Counter()
    for name in rated:
        for split in splits:
            part = [record for record in found.records if (record.split or NO_SPLIT) == split and record.ratings(name)]
            ratings = [rating for record in part for rating in record.ratings(name)]
            who = {rater for record in part for rater in _raters(record, name)}
            raters.update(rater for record in part for rater in _raters(record, name))
            if part:
                found.counts.append(
                    {"dimension": name, "split": split, "items": len(part), "ratings": len(ratings)}
                    | {"raters": len(who), "lowest": min(ratings), "highest": max(ratings), "pairs": pairs[name, split]}
                )
    found.raters = dict(raters.most_common())
    if not rated:
        found.notes.append("no record is rated: a pool to be labelled, nothing to train or evaluate on")
    for name in rated:
        if not any(row["pairs"] for row in found.counts if row["dimension"] == name):
            found.notes.append(f"{name}: no prompt has two pictures with different scores, so there are no pairs")
    if rubric is not None:
        unrated = [name for name in rubric.dimension_names if name not in rated]
        if unrated and rated:
            found.notes.append(f"the rubric's {', '.join(unrated)}: not rated")
    elif any(row["lowest"] < 1 or row["highest"] > 5 for row in found.counts):
        found.notes.append(
            "ratings outside 1 to 5, the default scale: name the scale in a rubric, and check with --rubric"
        )


def _raters(record: Record, name: str) -> list[str]:
    scores = record.scores.get(name)
    return [rater for rater, rating in scores.items() if rating is not None] if isinstance(scores, dict) else []


def _first(texts: dict[str, str]) -> str:
    return next(iter(texts.values()))


def _name_some(target: list[str], lines: Sequence[str], what: str) -> None:
    target += lines[:SHOWN]
    if len(lines) > SHOWN:
        target.append(f"... and {len(lines) - SHOWN} more {what} like these")
