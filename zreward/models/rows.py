"""One thing to score: a row of the model's input, and the items that callers give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zreward.common.errors import InputError
from zreward.common.texts import MOST_IMAGES, check_answer, match_prompts
from zreward.models.pixels import as_pictures
from zreward.models.rollout import Trace
from zreward.prompting import PromptForms, Texts


@dataclass(frozen=True)
class Row:
    """One thing to score: which images (indices), for which prompt, on which dimension; with a trace or directly.

    `images` are in the order of the conversation: one, several, or none. A model that compares (see `zreward.models.pairwise`)
    is shown the reference first. `explanation` (training only, direct form) follows the score: a score bin's index and the
    reasons for it. `item` tells rows without images apart: those of one item have the same number.
    """

    images: tuple[int, ...]
    prompt: str
    dimension: str
    trace: Trace | None = None
    explanation: tuple[int, Trace] | None = None
    answer: str | None = None
    item: int = 0

    @property
    def texts(self) -> Texts:
        return Texts(self.prompt, self.answer)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for rows of one item. Of rows that show images these alone tell: a prompt may be changed in training."""
        return self.images or (self.item, self.prompt, self.answer)


def rows_of(
    shown: Sequence[Sequence[Any]], texts: Sequence[str | Texts], dimensions: Sequence[str], times: int = 1
) -> list[Row]:
    """The rows of N items and D dimensions, dimension faster, each `times` in a row.

    Their images are counted through: the first item's come first.

    Args:
        shown: the pictures of each item.
        texts: what each says.
        dimensions: what each is asked about.
        times: rows of a question.
    """
    rows, first = [], 0
    for item, (mine, text) in enumerate(zip(shown, texts, strict=True)):
        images, (prompt, answer) = tuple(range(first, first + len(mine))), Texts.of(text)
        first += len(mine)
        rows += [Row(images, prompt, name, answer=answer, item=item) for name in dimensions for _ in range(times)]
    return rows


def as_items(
    images: Any, prompts: Sequence[str] | str, answers: Any, references: Any
) -> tuple[list[tuple[Any, ...]], list[Texts]]:
    """What callers give, item by item.

    Args:
        images: a picture per item; of an item with several a list of them, of one without an empty list or None. None: no
            item shows any.
        prompts: a text per item, or one for all.
        answers: a text per item, None where it has none; or one for all.
        references: a picture per item, for models that compare.

    Returns:
        Of each item its pictures in the order of the conversation, and its texts.

    Raises:
        InputError: unequal numbers, an item with neither picture nor answer, too many pictures, a text that is none.
    """
    shown = None if images is None else [_pictures(one) for one in as_pictures(images)]
    given = [answers] if isinstance(answers, str) else list(answers) if isinstance(answers, Iterable) else None
    if answers is not None and given is None:
        raise InputError(f"answers is a {type(answers).__name__}; expected a text, or a list of them")
    if shown is None:
        many = given if not isinstance(answers, str) or isinstance(prompts, str) else list(prompts)
        if many is None:
            raise InputError("neither images nor answers were given; an item needs a picture or an answer")
        shown = [()] * len(many)
    prompts = match_prompts(prompts, len(shown), "answer" if images is None else "image")
    if isinstance(answers, str):
        given = [answers] * len(shown)
    if given is not None and len(given) != len(shown):
        raise InputError(f"{len(shown)} items but {len(given)} answers; give one answer per item")
    texts = [Texts(prompt, answer) for prompt, answer in zip(prompts, given or [None] * len(shown), strict=True)]
    for number, each in enumerate(texts):
        if each.answer is not None:
            check_answer(each.answer, f"answer {number}" if len(texts) > 1 else "answer")
    if references is not None:
        others = as_pictures(references)
        if len(others) != len(shown):
            raise InputError(f"{len(shown)} images but {len(others)} references; give one reference per image")
        shown = [(other, *mine) for other, mine in zip(others, shown, strict=True)]
    return shown, texts


def check_items(
    forms: PromptForms, shown: Sequence[tuple[Any, ...]], texts: Sequence[str | Texts], compared: bool | None = None
) -> None:
    """InputError unless the forms can ask about every item.

    Args:
        forms: the model's.
        shown: the pictures of each item.
        texts: what each says.
        compared: whether references were given; default: not known, the pictures include them.
    """
    if forms.reference and compared is False:
        raise InputError("this model compares with a reference; give one per image (`references`, or --reference)")
    if not forms.reference and compared:
        raise InputError("this model scores single images; `references` is for models that compare")
    for number, (mine, text) in enumerate(zip(shown, texts, strict=True)):
        what = f"item {number}" if len(shown) > 1 else "the item"
        if forms.reference and len(mine) != 2:
            raise InputError(
                f"{what} shows {len(mine)} pictures; this model compares one picture with one reference, so expected two"
            )
        if len(mine) > MOST_IMAGES:
            raise InputError(f"{what} shows {len(mine)} pictures; expected at most {MOST_IMAGES}")
        if not mine and Texts.of(text).answer is None:
            raise InputError(f"{what} has neither a picture nor an answer; give one of them")


def _pictures(one: Any) -> tuple[Any, ...]:
    if one is None:
        return ()
    return tuple(one) if isinstance(one, list | tuple) else (one,)
