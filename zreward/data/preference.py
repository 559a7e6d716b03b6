"""Which of two pictures people prefer: prompt, pictures, and votes per dimension."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.common.texts import check_prompt
from zreward.data.fields import check_known, finite_number, plain_list, plain_text, texts
from zreward.data.images import ImageSource, as_source, check_path, held_image, open_image, refuse_url
from zreward.data.record import Record
from zreward.distribution import GAP_TOLERANCE

A, B, TIE = "a", "b", "tie"
CHOICES = (A, B, TIE)
MOST_RANKED = 200  # pictures of a ranked list: they are nearly 20,000 pairs
OVERALL = "overall"
"""The dimension of a vote on the picture as a whole."""

VoteForms = str | Mapping[str, float] | Mapping[str, str]
"""One vote ("a", "b" or "tie"), counts {"a": 7, "b": 2, "tie": 1}, or {rater: vote}."""


@dataclass(frozen=True)
class Votes:
    """How many votes each side got; weighted votes need not be whole numbers. At least one is above zero."""

    a: float = 0.0
    b: float = 0.0
    tie: float = 0.0

    @property
    def total(self) -> float:
        return self.a + self.b + self.tie

    @property
    def share(self) -> float:
        """Of the votes, those for a, in [0, 1]; a tie is half a vote for each."""
        return (self.a + self.tie / 2) / self.total

    @property
    def winner(self) -> str:
        """The side with more votes, "tie" where both have as many or ties have most."""
        if self.a == self.b or self.tie > max(self.a, self.b):
            return TIE
        return A if self.a > self.b else B


@dataclass(frozen=True)
class Preference:
    """Two pictures of one prompt, a and b, and who prefers which.

    Args:
        prompt: the text that both were generated from.
        images: a and b, each a path, encoded bytes or a PIL image.
        votes: per dimension one vote ("a", "b", "tie"), counts {"a": 7, "b": 2, "tie": 1} or {rater: vote}; a vote or counts
            without a dimension are those on "overall".
        models: what generated a and b, where it is known.
        group: as a record's; default: the prompt.
        split: such as train, dev or test.
        tags: free texts.
        id: unique in a file.

    Raises:
        InputError: a wrong field, by name.
    """

    prompt: str
    images: tuple[ImageSource, ImageSource]
    votes: Mapping[str, VoteForms] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        for name in ("group", "split", "id"):
            if getattr(self, name) is not None:
                plain_text(getattr(self, name), name)
        images = plain_list(self.images, "images")
        if len(images) != 2:
            raise InputError(f"images has {len(images)} of them, expected two, a and b; a longer list goes with ranks")
        models = texts(self.models, "models", "model")
        if len(models) not in (0, 2):
            raise InputError(f"models names {len(models)}, expected two, of a and of b, or none")
        object.__setattr__(self, "images", tuple(map(as_source, images)))
        object.__setattr__(self, "models", models)
        object.__setattr__(self, "tags", texts(self.tags, "tags", "tag"))
        object.__setattr__(self, "votes", _votes(self.votes))

    @property
    def group_key(self) -> str:
        return self.prompt if self.group is None else self.group

    def counts(self, dimension: str = OVERALL) -> Votes | None:
        """The votes on one dimension, None where there is none."""
        given = self.votes.get(dimension)
        if given is None:
            return None
        if isinstance(given, str):
            return Votes(**{given: 1.0})
        if _are_counts(given):
            return Votes(**{side: float(given.get(side, 0.0)) for side in CHOICES})
        chosen = list(given.values())
        return Votes(**{side: float(chosen.count(side)) for side in CHOICES})

    def raters(self, dimension: str = OVERALL) -> dict[str, str]:
        """{rater: vote}, empty where raters are not told apart."""
        given = self.votes.get(dimension, {})
        return {} if isinstance(given, str) or _are_counts(given) else dict(given)  # type: ignore[arg-type]

    def open_images(self) -> tuple[Any, Any]:
        """Both decoded RGB images; InputError names the path and the reason."""
        first, second = map(open_image, self.images)
        return first, second

    def check_images(self, decode: bool | None = True) -> None:
        """InputError for a missing or, with `decode`, an unreadable or truncated image; None: nothing is looked at."""
        check_images([self], decode)


def check_images(preferences: Sequence[Preference], decode: bool | None = True) -> None:
    """`Preference.check_images` of each; a picture that stands in many pairs is looked at once."""
    if decode is None:
        return
    shown_in = (image for one in preferences for image in one.images)
    for image in {image if isinstance(image, str) else id(image): image for image in shown_in}.values():
        if decode:
            open_image(image)
        elif isinstance(image, str):
            check_path(image)


def records_of(preferences: Sequence[Preference]) -> list[Record]:
    """Both pictures of every preference, a first, as unrated records: what is checked of these is checked of preferences."""
    return [Record(one.prompt, image, group=one.group, split=one.split) for one in preferences for image in one.images]


def count_of(preferences: Sequence[Preference]) -> str:
    """How many there are, for a person."""
    return "1 pair of pictures" if len(preferences) == 1 else f"{len(preferences):,} pairs of pictures"


KEYS = (*(f.name for f in fields(Preference)), "ranks")


def check_preference_key(key: Any) -> None:
    """InputError for a key that no line of preferences has, naming the nearest that it may stand for."""
    check_known(key, KEYS)


def preferences_of(data: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> list[Preference]:
    """The preferences of one line: one, or those of all pairs of a ranked list.

    A ranked list has `ranks` in place of `votes`: per dimension one place for every image, 1 the best, equal for a tie, or
    {rater: places}; places without a dimension are those on "overall". Strict: an unknown key is refused. Null means absent.

    Raises:
        InputError: a wrong field, by name.
    """
    for key in data:
        check_preference_key(key)
    values = {key: value for key, value in data.items() if value is not None}
    for key in ("prompt", "images"):
        if key not in values:
            raise InputError(f"missing {key!r}")
    images = []
    for image in map(held_image, plain_list(values["images"], "images")):
        if isinstance(image, str):
            refuse_url(image)
            image = str(Path(folder, plain_text(image, "image")))
        images.append(image)
    values["images"] = tuple(images)
    if "ranks" not in values:
        return [Preference(**values)]
    if "votes" in values:
        raise InputError("votes and ranks in one line; ranks already say who is preferred to whom")
    return list(ranked(**values))


def ranked(
    prompt: str,
    images: Sequence[ImageSource],
    ranks: Any,
    models: Sequence[str] = (),
    id: str | None = None,
    **common: Any,
) -> Iterator[Preference]:
    """All pairs of a ranked list, in the order of the images; `ranks` as `preferences_of` says. InputError: a wrong list."""
    images, models = plain_list(images, "images"), plain_list(models, "models")
    if not 2 <= len(images) <= MOST_RANKED:
        raise InputError(
            f"images has {len(images)} of them, expected 2 to {MOST_RANKED}; cut a longer list into several"
        )
    if len(models) not in (0, len(images)):
        raise InputError(f"models names {len(models)}, expected one for each of the {len(images)} images, or none")
    places = _ranks(ranks, len(images))
    for a, b in itertools.combinations(range(len(images)), 2):
        votes: dict[str, VoteForms] = {}
        for name, given in places.items():
            if isinstance(given, dict):
                votes[name] = {rater: _better(-each[a], -each[b]) for rater, each in given.items()}
            else:
                votes[name] = _better(-given[a], -given[b])
        yield Preference(
            prompt,
            (images[a], images[b]),
            votes,
            (models[a], models[b]) if models else (),
            id=None if id is None else f"{id}/{a}-{b}",
            **common,
        )


def record_preferences(
    records: Sequence[Record], dimensions: Sequence[str] | None = None, margin: float = 0.0
) -> list[Preference]:
    """All pairs within a group of records of one prompt, as votes: who rated both is a rater, otherwise the means are one vote.

    Args:
        records: rated records.
        dimensions: names; default all that both sides rate.
        margin: score units; a difference up to it is a tie.

    Returns:
        Preferences with a vote on at least one dimension, group by group in the records' order.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.group_key, record.prompt), []).append(record)
    found = []
    for members in groups.values():
        for a, b in itertools.combinations(members, 2):
            names = [name for name in dimensions or a.scores if name in a.scores and name in b.scores]
            votes = {name: vote for name in names if (vote := _vote_of(a, b, name, margin))}
            if votes:
                image = (a.only_image("preferences"), b.only_image("preferences"))
                split = a.split if a.split == b.split else None
                found.append(Preference(a.prompt, image, votes, group=a.group, split=split))
    return found


def _vote_of(a: Record, b: Record, name: str, margin: float) -> VoteForms | None:
    left, right = a.scores[name], b.scores[name]
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        both = [rater for rater, score in left.items() if score is not None and right.get(rater) is not None]
        if both:
            return {rater: _better(left[rater], right[rater], margin) for rater in both}  # type: ignore[arg-type]
    score, other = a.score(name), b.score(name)
    return None if score is None or other is None else _better(score, other, margin)


def _better(a: float, b: float, margin: float = 0.0) -> str:
    if abs(a - b) <= margin + GAP_TOLERANCE:
        return TIE
    return A if a > b else B


def _votes(votes: Any) -> dict[str, VoteForms]:
    if isinstance(votes, str) or (isinstance(votes, Mapping) and votes and _are_counts(votes)):
        votes = {OVERALL: votes}
    if not isinstance(votes, Mapping):
        raise InputError(f"votes is {shown(votes)}, expected {{dimension: vote}}")
    found: dict[str, VoteForms] = {}
    for name, value in votes.items():
        what = f"vote on {plain_text(name, 'dimension')!r}"
        if value is None:
            continue
        if isinstance(value, Mapping):
            found[name] = _counts(value, what) if _are_counts(value) else _by_rater(value, what)
        else:
            found[name] = _choice(value, what)
    return found


def _are_counts(votes: Mapping[str, Any]) -> bool:
    """Numbers by side; whoever voted is never called a, b or tie alone."""
    return all(key in CHOICES and not isinstance(value, str) for key, value in votes.items())


def _counts(votes: Mapping[str, Any], what: str) -> dict[str, float]:
    counts = {side: finite_number(value, f"{what}: {side}") for side, value in votes.items() if value is not None}
    if any(value < 0 for value in counts.values()) or not sum(counts.values()) > 0:
        raise InputError(f"{what} is {shown(dict(votes))}, expected counts of 0 or more, at least one of them above 0")
    return counts


def _by_rater(votes: Mapping[str, Any], what: str) -> dict[str, str]:
    found = {
        plain_text(rater, f"{what}: rater"): _choice(vote, f"{what} by {rater!r}")
        for rater, vote in votes.items()
        if vote is not None
    }
    if not found:
        raise InputError(f"{what} is empty; leave the dimension out when nobody voted")
    return found


def _choice(vote: Any, what: str) -> str:
    if vote in CHOICES:
        return str(vote)
    raise InputError(
        f"{what} is {shown(vote)}, expected a, b or tie, {{a: count, b: count, tie: count}} or {{rater: vote}}"
    )


def _ranks(ranks: Any, count: int) -> dict[str, list[float] | dict[str, list[float]]]:
    """Per dimension the places of all images, or those that each rater gave them."""
    by_dimension = ranks if isinstance(ranks, Mapping) else {OVERALL: ranks}
    found: dict[str, list[float] | dict[str, list[float]]] = {}
    for name, value in by_dimension.items():
        what = f"ranks on {plain_text(name, 'dimension')!r}"
        if not isinstance(value, Mapping):
            found[name] = _places(value, what, count)
            continue
        if not value:
            raise InputError(f"{what} is empty; leave the dimension out when nobody ranked")
        found[name] = {plain_text(rater, f"{what}: rater"): _places(each, what, count) for rater, each in value.items()}
    return found


def _places(value: Any, what: str, count: int) -> list[float]:
    places = plain_list(value, what, "places")
    if len(places) != count:
        raise InputError(f"{what} has {len(places)} places, expected one for each of the {count} images")
    return [finite_number(place, what) for place in places]
