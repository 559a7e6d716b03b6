"""`zreward data check --against`: what a set has in common with another, or with what a checkpoint was trained on."""

from __future__ import annotations

from pathlib import Path

from zreward.common.errors import InputError
from zreward.data import load_preferences, load_records
from zreward.data.checking import Findings
from zreward.data.looks import looks_of
from zreward.data.preference import records_of
from zreward.data.preference_files import holds_preferences
from zreward.data.seen import SeenData, find_overlap, seen_of
from zreward.data.splits import texts_of


def check_against(found: Findings, against: Path) -> None:
    """Add an error to `found` where its records have prompts or pictures of `against`, else a note.

    InputError: `against` cannot be read, or is a checkpoint that says nothing.
    """
    seen = _seen(against)
    images = [picture for record in found.records for picture in record.pictures]
    overlap = find_overlap(seen, list(texts_of(found.records)), images)
    names = [
        record.id or (picture if isinstance(picture, str) else "?")
        for record in found.records
        for picture in record.pictures
    ]
    said = overlap.describe(names)
    if overlap:
        found.errors.append(f"{said} are in {against} as well")
    else:
        found.notes.append(f"{said} are in {against} as well")
    if overlap.pictures is None:
        found.notes.append(f"{against}: its pictures were not noted, so pictures were not compared")


def _seen(against: Path) -> SeenData:
    if against.is_dir():
        from zreward.data.seen import load_seen
        from zreward.models.training_data import stored_in

        file = stored_in(against)
        if file is None:
            raise InputError(f"{against}: no checkpoint that says what it was trained on; expected one, or a data file")
        return load_seen(file)
    if holds_preferences(against):
        others = records_of(load_preferences(against, check_images=False))
    else:
        others = load_records(against, check_images=False)
    return seen_of(texts_of(others), [looks_of(picture for record in others for picture in record.pictures)])
