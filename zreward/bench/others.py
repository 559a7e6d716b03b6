"""Another model's published predictions as answers to a suite: found by id, else by the picture's path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from zreward.bench.answers import groups_of, targets_of, votes_of, with_thresholds
from zreward.bench.figures import PairAnswers, PictureAnswers
from zreward.bench.labels import is_label
from zreward.bench.suite import Suite
from zreward.bench.tables import Said
from zreward.common.errors import InputError, shown
from zreward.data.preference import TIE, A, B

_WORDS = {"a": A, "b": B, "tie": TIE, "left": A, "right": B, "a>b": A, "b>a": B, "a>>b": A, "b>>a": B, "a=b": TIE}
_WORDS |= {"a=b=good": TIE, "a=b=bad": TIE}  # labels of TIGER-Lab's GenAI-Bench
NOT_PUBLISHED = "{path}: says nothing of {count:,} of the {whole:,} {what} of suite {suite}, such as {first}"


def answers_of(suite: Suite, name: str, said: Said, partial: bool) -> PairAnswers | PictureAnswers:
    """What a table says of a suite's dimension.

    Args:
        suite: the benchmark.
        name: the dimension.
        said: the table's column.
        partial: leave out what the table says nothing of, as long as it says anything.

    Raises:
        InputError: a picture or pair that the table does not have; a value that is neither a finite number nor a choice.
    """
    if suite.kind == "pictures":
        return _of_pictures(suite, name, said, partial)
    answers = _of_pairs(suite, name, said, partial)
    if suite.tuning is None or not _knows(suite.tuning, said):
        return answers
    return with_thresholds(answers, _of_pairs(suite.tuning, name, said, partial=True))


def _of_pictures(suite: Suite, name: str, said: Said, partial: bool) -> PictureAnswers:
    scores = _by_key(said)
    number, target, group = targets_of(suite, name)
    found = [_scores_of_picture(suite.pictures[n].id, suite.pictures[n].image, scores) for n in number]
    there = _there(suite, said, [one is not None for one in found], number, partial, "pictures")
    score = np.array([np.mean([_number(value, said) for value in found[n]]) for n in there], dtype=float)
    return PictureAnswers(score, target[there], [group[n] for n in there], number[there])


def _of_pairs(suite: Suite, name: str, said: Said, partial: bool) -> PairAnswers:
    table = _by_key(said)
    number = np.array([n for n, one in enumerate(suite.preferences) if one.counts(name) is not None], dtype=np.intp)
    found = [_gaps_of_pair(suite, n, table, said) for n in number]
    there = _there(suite, said, [bool(one) for one in found], number, partial, "pairs")
    rows = np.array([n for n in there for _ in found[n]], dtype=np.intp)
    gap = np.array([value for n in there for value, _ in found[n]], dtype=float)
    scored = all(is_score for n in there for _, is_score in found[n])
    chosen = [suite.preferences[number[n]] for n in rows]
    # Of scores whose difference is a log-odds, as Bradley-Terry models have, and as Pick-a-Pic's rule takes them.
    prob = expit(gap) if scored else None
    exact = None
    if suite.labels is not None:
        said_of = [value for n in there for value in _values_of(suite, number[n], table)]
        exact = np.array(
            [is_label(value, suite.labels[number[n]]) for n, value in zip(rows, said_of, strict=True)], float
        )
    return PairAnswers(gap, prob, votes_of(chosen, name), *groups_of(chosen), exact=exact, number=number[rows])


def _gaps_of_pair(suite: Suite, number: int, table: Mapping[str, list[Any]], said: Said) -> list[tuple[float, bool]]:
    """Gaps for one pair, and whether each is of scores: by the pair's id, else by the scores of its two pictures."""
    one = suite.preferences[number]
    if values := _values_of(suite, number, table):
        return [(0.0, False) if suite.labels is not None and not _is_choice(v) else _gap(v, said) for v in values]
    sides = [_scores_of_picture(None, image, table) for image in one.images]
    if sides[0] is None or sides[1] is None:
        return []
    left, right = (float(np.mean([_number(value, said) for value in values])) for values in sides if values is not None)
    return [(left - right, True)]


def _values_of(suite: Suite, number: int, table: Mapping[str, list[Any]]) -> list[Any]:
    name = suite.preferences[number].id
    return [] if name is None else table.get(name, [])


def _word(value: str) -> str | None:
    return _WORDS.get(value.strip().removeprefix("[[").removesuffix("]]").casefold())


def _is_choice(value: Any) -> bool:
    """Whether an answer names a side or a tie; of models that write text, some do not: they are wrong."""
    return isinstance(value, str) and _word(value) is not None


def _gap(value: Any, said: Said) -> tuple[float, bool]:
    """A gap, and whether it is one of scores: a number is; a choice is 1, -1 or 0."""
    if isinstance(value, str) and (choice := _word(value)) is not None:
        return {A: 1.0, B: -1.0, TIE: 0.0}[choice], False
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{said.path}: {said.column} is {shown(value)}, expected a, b, tie or a number; leave a row out that has no answer"
            f"{_advice(value)}"
        ) from None
    return _finite(number, said), True


def _number(value: Any, said: Said) -> float:
    try:
        return _finite(float(value), said)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{said.path}: {said.column} is {shown(value)}, expected a number{_advice(value)}") from None


def _advice(value: Any) -> str:
    """How several numbers become one is for whoever publishes them to say: the mean, the least, ..."""
    several = isinstance(value, list | tuple | Mapping) or str(value).startswith("[")
    return "; of several, write the number that counts into a column of its own, such as their mean" if several else ""


def _finite(number: float, said: Said) -> float:
    if not math.isfinite(number):
        raise InputError(f"{said.path}: {said.column} is {number}, expected a finite number")
    return number


def _by_key(said: Said) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {}
    assert said.keys is not None  # zreward.bench.ratings.matched
    for key, value in zip(said.keys, said.values, strict=True):
        table.setdefault(key, []).append(value)
    return table


def _scores_of_picture(name: str | None, image: Any, table: Mapping[str, list[Any]]) -> list[Any] | None:
    """By the record's id, the path as it stands, or the shortest end of the path that the table has."""
    if name is not None and name in table:
        return table[name]
    if not isinstance(image, str):
        return None
    if image in table:
        return table[image]
    parts = Path(image).parts
    ends = (Path(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((table[end] for end in ends if end in table), None)


def _knows(suite: Suite, said: Said) -> bool:
    table = _by_key(said)
    return any(_gaps_of_pair(suite, n, table, said) for n in range(len(suite.preferences)))


def _there(suite: Suite, said: Said, found: list[bool], number: np.ndarray, partial: bool, what: str) -> np.ndarray:
    there = np.flatnonzero(found)
    missing = np.flatnonzero(~np.array(found, dtype=bool))
    if len(missing) and not (partial and len(there)):
        one = suite.items[number[missing[0]]]
        first = one.id or getattr(one, "image", None) or one.prompt
        text = NOT_PUBLISHED.format(
            path=said.path, count=len(missing), whole=len(found), what=what, suite=suite.name, first=shown(first)
        )
        raise InputError(text + ("" if not len(there) else "; --partial measures the others"))
    return there
