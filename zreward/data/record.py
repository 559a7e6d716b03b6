"""One rated (or unrated) item: prompt, pictures or an answer, ratings per dimension."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from zreward.common.errors import InputError, shown
from zreward.common.texts import MOST_IMAGES, check_answer, check_prompt
from zreward.data.aggregation import Scores, aggregate, rating_list, target_distribution
from zreward.data.fields import check_known, finite_number, plain_list, plain_text, texts
from zreward.data.images import ImageSource, as_source, check_path, held_image, open_image, refuse_url
from zreward.data.packed import PackedImage
from zreward.distribution import ScoreScale
from zreward.rubric import Rubric


@dataclass(frozen=True)
class Record:
    """What is judged, with its prompt and, if rated, people's scores: one image, several in order, an answer, or both.

    Args:
        prompt: the text that the image was generated from; the instruction of an edit; the question of an answer.
        image: a path, encoded bytes (PNG, JPEG, ...) or a PIL image; an open file or {bytes, path} becomes what it holds.
            None: see `images` and `answer`.
        scores: per dimension one number, one per rater, or {rater: number or null}; empty: unlabelled.
        group: pairs are formed within a group; default: the prompt.
        split: such as train, dev or test.
        rubric_version: the version that the scores were given under.
        tags: free texts.
        id: unique in a file.
        stds: per dimension whose single score is a mean: its published standard deviation, in score units; makes
            `target` SYNTHETIC.
        images: instead of `image`: two to eight in the order in which they are shown, such as before and after an edit.
        answer: words that are judged, beside images or alone.

    Raises:
        InputError: a wrong field, by name. `validate` checks dimensions and scores against a rubric.
    """

    prompt: str
    image: ImageSource | None = None
    scores: Mapping[str, Scores] = field(default_factory=dict)
    group: str | None = None
    split: str | None = None
    rubric_version: str | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None
    stds: Mapping[str, float] = field(default_factory=dict)
    images: tuple[ImageSource, ...] = ()
    answer: str | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if self.answer is not None:
            check_answer(self.answer)
        for name in ("group", "split", "rubric_version", "id"):
            if getattr(self, name) is not None:
                plain_text(getattr(self, name), name)
        object.__setattr__(self, "images", _sources(self.images))
        if self.image is not None:
            object.__setattr__(self, "image", as_source(self.image))
        if self.image is not None and self.images:
            raise InputError("both 'image' and 'images'; put all pictures into 'images', in order")
        if not self.pictures and self.answer is None:
            raise InputError("missing 'image'; a record has an image, images, or an answer")
        object.__setattr__(self, "tags", texts(self.tags, "tags", "tag"))
        object.__setattr__(self, "scores", _scores(self.scores))
        object.__setattr__(self, "stds", _stds(self.stds, self.scores))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> Record:
        """Strict: an unknown key is refused with the nearest known one. Null means absent. Paths start at `folder`."""
        if not _KEYS.issuperset(data):
            for key in data:
                check_key(key)
        values = {key: value for key, value in data.items() if value is not None}
        if "prompt" not in values:
            raise InputError("missing 'prompt'")
        if "image" in values:
            values["image"] = _placed(values["image"], folder, "image")
        if "images" in values:
            values["images"] = [_placed(one, folder, "images") for one in plain_list(values["images"], "images")]
        return cls(**values)

    def validate(self, rubric: Rubric) -> None:
        """InputError for a dimension the rubric lacks or a score off its scale."""
        check_ratings(self.scores, rubric)

    def check_image(self, decode: bool | None = True) -> None:
        """InputError for a missing or, with `decode`, an unreadable or truncated image; None: nothing is looked at."""
        for picture in self.pictures:
            if decode:
                open_image(picture)
            elif decode is False and isinstance(picture, str):
                check_path(picture)

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

    @property
    def pictures(self) -> tuple[ImageSource, ...]:
        """What it shows, in order: `image` alone, `images`, or nothing."""
        return self.images if self.image is None else (self.image,)

    @property
    def name(self) -> str:
        """How messages call it: its id, else the file of the picture that is judged (the last one), else its prompt."""
        last = self.pictures[-1] if self.pictures else None
        return self.id or (str(last) if isinstance(last, str | PackedImage) else shown(self.prompt))

    def only_image(self, doing: str) -> ImageSource:
        """Its picture. InputError, saying what is being done, for a record that does not consist of one picture alone."""
        if self.image is None or self.answer is not None:
            raise InputError(
                f"record {self.name}: {self.describe()}; {doing} takes records of one picture and no answer"
            )
        return self.image

    def describe(self) -> str:
        """What it holds: "2 pictures and an answer"."""
        count = len(self.pictures)
        parts = [f"{count} picture{'s' * (count > 1)}"] * bool(count) + ["an answer"] * (self.answer is not None)
        return " and ".join(parts)

    def open_images(self) -> list[Image.Image]:
        """The decoded RGB images; InputError names the path and the reason."""
        return [open_image(picture) for picture in self.pictures]

    def open_image(self) -> Image.Image:
        """The decoded RGB image that is judged: the only one, or the last. InputError where there is none, or it is broken."""
        if not self.pictures:
            raise InputError(f"record {self.name} shows no picture")
        return open_image(self.pictures[-1])


KEYS = tuple(f.name for f in fields(Record))
_KEYS = frozenset(KEYS)


def check_ratings(ratings: Mapping[str, Scores], rubric: Rubric) -> None:
    """InputError for a dimension that the rubric lacks, or a rating off its scale."""
    for name, scores in ratings.items():
        rubric.dimension(name)
        for rating in rating_list(scores):
            rubric.scale.validate(rating, f"score of {name!r}")


def check_key(key: Any) -> None:
    """InputError for a key that no record has, naming the nearest that it may stand for."""
    check_known(key, KEYS)


def _placed(image: Any, folder: str | os.PathLike[str], what: str) -> Any:
    """A picture of a row; a path starts at `folder`."""
    held = held_image(image)
    if not isinstance(held, str):
        return held
    refuse_url(held)
    return str(Path(folder, plain_text(held, what)))


def _sources(images: Any) -> tuple[ImageSource, ...]:
    """InputError for too many pictures, and for a single one, which belongs into `image`."""
    if isinstance(images, tuple) and not images:
        return ()
    given = plain_list(images, "images", "pictures")
    if len(given) > MOST_IMAGES or len(given) == 1:
        raise InputError(
            f"images holds {len(given)} picture{'s' * (len(given) > 1)}; expected 2 to {MOST_IMAGES}, or 'image' for one"
        )
    return tuple(as_source(one) for one in given)


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
