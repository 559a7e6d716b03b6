"""One rated (or unrated) image: prompt, picture, ratings per dimension."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from zreward.common.errors import InputError, shown
from zreward.common.texts import check_prompt
from zreward.data.aggregation import Scores, aggregate, rating_list, target_distribution
from zreward.data.fields import check_known, finite_number, plain_text, texts
from zreward.data.images import ImageSource, as_source, check_path, held_image, open_image, refuse_url
from zreward.distribution import ScoreScale
from zreward.rubric import Rubric


@dataclass(frozen=True)
class Record:
    """One image with its prompt and, if rated, people's scores.

    Args:
        prompt: the text that the image was generated from.
        image: a path, encoded bytes (PNG, JPEG, ...) or a PIL image; an open file or {bytes, path} becomes what it holds.
        scores: per dimension one number, one per rater, or {rater: number or null}; empty: unlabelled.
        group: pairs are formed within a group; default: the prompt.
        split: such as train, dev or test.
        rubric_version: the version that the scores were given under.
        tags: free texts.
        id: unique in a file.
        stds: per dimension whose single score is a mean: its published standard deviation, in score units; makes
            `target` SYNTHETIC.

    Raises:
        InputError: a wrong field, by name. `validate` checks dimensions and scores against a rubric.
    """

    prompt: str
    image: ImageSource
    scores: Mapping[str, Scores] = field(default_factory=dict)
    group: str | None = None
    split: str | None = None
    rubric_version: str | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None
    stds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        for name in ("group", "split", "rubric_version", "id"):
            if getattr(self, name) is not None:
                plain_text(getattr(self, name), name)
        object.__setattr__(self, "image", as_source(self.image))
        object.__setattr__(self, "tags", texts(self.tags, "tags", "tag"))
        object.__setattr__(self, "scores", _scores(self.scores))
        object.__setattr__(self, "stds", _stds(self.stds, self.scores))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> Record:
        """Strict: an unknown key is refused with the nearest known one. Null means absent. Paths start at `folder`."""
        if not _KEYS.issuperset(data):
            for key in data:
                check_key(key)
        for key in ("prompt", "image"):
            if data.get(key) is None:
                raise InputError(f"missing {key!r}")
        values = {key: value for key, value in data.items() if value is not None}
        values["image"] = held_image(values["image"])
        if isinstance(values["image"], str):
            refuse_url(values["image"])
            values["image"] = str(Path(folder, plain_text(values["image"], "image")))
        return cls(**values)

    def validate(self, rubric: Rubric) -> None:
        """InputError for a dimension the rubric lacks or a score off its scale."""
        for name, scores in self.scores.items():
            rubric.dimension(name)
            for rating in rating_list(scores):
                rubric.scale.validate(rating, f"score of {name!r}")

    def check_image(self, decode: bool | None = True) -> None:
        """InputError for a missing or, with `decode`, an unreadable or truncated image; None: nothing is looked at."""
        if decode:
            self.open_image()
        elif decode is False and isinstance(self.image, str):
            check_path(self.image)

    def ratings(self, dimension: str) -> list[float]:
        """All ratings that are not null, [] when the dimension was not rated."""
        return rating_list(self.scores.get(dimension))

    def score(self, dimension: str) -> float | None:
        """Trimmed mean of the ratings, None when the dimension was not rated."""
        return aggregate(self.ratings(dimension))

    def target(self, dimension: str, scale: ScoreScale, smoothing: float = 0.0) -> Tensor | None:
        """The training target of one dimension: `target_distribution` of its ratings.

        Args:
            dimension: its name.
            scale: the rubric's scale.
            smoothing: standard deviation, in score units, that spreads each rating; 0: none.

        Returns:
            Probabilities [S], SYNTHETIC where `stds` has an entry; None when not rated.
        """
        return target_distribution(self.ratings(dimension), scale, smoothing, self.stds.get(dimension, 0.0))

    @property
    def group_key(self) -> str:
        return self.prompt if self.group is None else self.group

    def open_image(self) -> Image.Image:
        """The decoded RGB image; InputError names the path and the reason."""
        return open_image(self.image)


KEYS = tuple(f.name for f in fields(Record))
_KEYS = frozenset(KEYS)


def check_key(key: Any) -> None:
    """InputError for a key that no record has, naming the nearest that it may stand for."""
    check_known(key, KEYS)


def _scores(scores: Any) -> dict[str, Scores]:
    if not isinstance(scores, Mapping):
        raise InputError(f"scores is {shown(scores)}, expected {{dimension: score}}")
    result: dict[str, Scores] = {}
    for name, value in scores.items():
        what = f"score of {plain_text(name, 'dimension')!r}"
        if value is None:
            continue
        if isinstance(value, Mapping):
            result[name] = {
                plain_text(rater, f"{what}: rater"): None
                if rating is None
                else finite_number(rating, f"{what} by {rater!r}")
                for rater, rating in value.items()
            }
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            result[name] = [finite_number(rating, what) for rating in value]
        else:
            result[name] = finite_number(value, what)
        if result[name] in ([], {}):
            raise InputError(f"{what} is empty; leave the dimension out when nobody rated it")
    return result


def _stds(stds: Any, scores: Mapping[str, Any]) -> dict[str, float]:
    if not isinstance(stds, Mapping):
        raise InputError(f"stds is {shown(stds)}, expected {{dimension: standard deviation}}")
    result = {}
    for name, value in stds.items():
        if value is None:
            continue
        what = f"std of {plain_text(name, 'dimension')!r}"
        result[name] = finite_number(value, what)
        if result[name] < 0:
            raise InputError(f"{what} is {value!r}, expected 0 or more, in score units")
        count = len(rating_list(scores.get(name)))
        if count != 1:
            raise InputError(f"{what} beside {count} ratings; a spread belongs to exactly one aggregate score")
    return result
