"""HPDv2 (arXiv 2306.09341): chosen pictures of pairs for training; a test set ranked by several people each.

Sources of the layout: the data card of the hub's ymhao/HPDv2 and its loader HPDv2.py; github.com/tgxs002/HPSv2, README.md
and src/training/data.py (`human_preference`, 1 for the chosen picture; `rank`, the lowest is the best, as
`inversion_score` in train.py counts it). The card names the pictures of train.json `file_path`; loaders of others read
`image_path` there: both are taken. The raw ranks are `raw_annotations` on the card, `raw_annotation` in README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.fields import plain_list, plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows
from zreward.data.importers.values import first_of, needed, number_within
from zreward.data.preference import OVERALL, Preference, ranked

AVERAGED = "averaged"
"""The dimension of the published averaged rank, by which the official metric goes."""


def _read(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("train.json", "test.json"):
        if file.stem == "test":
            for pairs in reading.each(json_rows(file), partial(_ranks, reading)):
                yield from pairs
        else:
            yield from reading.each(json_rows(file), partial(_choice, reading))


def _choice(reading: Reading, row: Mapping[str, Any]) -> Preference:
    prompt, chosen = needed(row, "prompt", "human_preference")
    name = first_of(row, "file_path", "image_path")
    images = tuple(reading.picture(image, name, "train") for image in plain_list(row[name], name))
    if chosen not in ([1, 0], [0, 1]):
        raise InputError(f"human_preference is {shown(chosen)}, expected [1, 0] or [0, 1]")
    side, user = "a" if chosen == [1, 0] else "b", row.get("user_hash")
    votes = {OVERALL: side if user is None else {plain_text(user, "user_hash"): side}}
    return Preference(prompt, images, votes, split="train")  # type: ignore[arg-type]


def _ranks(reading: Reading, row: Mapping[str, Any]) -> list[Preference]:
    prompt, images, averaged = needed(row, "prompt", "image_path", "rank")
    pictures = [reading.picture(image, "image_path", "test") for image in plain_list(images, "image_path")]
    ranks: dict[str, Any] = {AVERAGED: _places(averaged, "rank")}
    name = next((key for key in ("raw_annotations", "raw_annotation") if row.get(key) is not None), None)
    if name is not None:
        ranks[OVERALL] = _by_user(row[name], name)
    return list(ranked(prompt, pictures, ranks, split="test"))


def _by_user(annotations: Any, name: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in plain_list(annotations, name):
        if not isinstance(one, Mapping):
            raise InputError(f"{name} holds {shown(one)}, expected {{rank, user_hash}}")
        places, given = needed(one, "rank", "user_hash")
        user = plain_text(given, "user_hash")
        if user in found:
            raise InputError(f"{name}: {user!r} ranks a second time")
        found[user] = _places(places, f"{name}: rank")
    return found


def _places(places: Any, what: str) -> list[float]:
    return [number_within(place, what, lowest=0) for place in plain_list(places, what)]


HPDV2 = Importer(
    name="hpdv2",
    title="HPDv2",
    source="hub ymhao/HPDv2; github.com/tgxs002/HPSv2",
    licence="Apache-2.0",
    layout="train.json and train/*.jpg, test.json and test/*.jpg (train.tar.gz, test.tar.gz unpacked)",
    holds="train: 645,000 pairs, one choice each; test: lists of pictures, with the rank that every annotator gave",
    targets="preferences, overall: the choice, or every annotator's vote on every pair; averaged (test): by the averaged rank",
    missing="which model made a picture; several votes on a training pair",
    checked="data card, loader and training code of the publisher",
    makes=Preference,
    read=_read,
)
