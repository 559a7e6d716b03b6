"""The conversation for a (rubric, dimension, prompt), in the direct and the reasoning form.

What is judged may show one picture, several in order, or none; an answer in words may be judged beside them or alone.
One order everywhere: system and rubric, images, prompt and answer, then the dimension's name and the answer prefix. What
stands before the first image depends on the rubric alone and is encoded once for all items; images and texts are encoded once
for all dimensions. The score is read from the logits right after `answer_prefix`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from string import Formatter
from typing import Any, NamedTuple

from zreward.common.errors import InputError, shown
from zreward.common.texts import check_unicode
from zreward.rubric import Dimension, Rubric

_MOST_LETTERS, _MOST_FIELDS = 10_000, 16  # of a form


LATER = ("picture", "several", "answer")
"""Forms that version 0.1 did not have."""


class Texts(NamedTuple):
    """What an item says: its prompt and, where words are judged, the answer to it."""

    prompt: str
    answer: str | None = None

    @classmethod
    def of(cls, text: str | Texts) -> Texts:
        """A prompt without an answer may come as a plain text."""
        return text if isinstance(text, Texts) else cls(text)


def judged_as(shown: Sequence[tuple[Any, ...]], texts: Sequence[Texts]) -> tuple[list[Any], list[str], dict[str, Any]]:
    """Items as a `judge` method takes them: images, prompts, and `answers` where there are some.

    Items of one picture are given plainly, so that teachers of other packages, which know nothing else, take them.
    """
    answers = [one.answer for one in texts]
    options = {"answers": answers} if any(answer is not None for answer in answers) else {}
    return [mine[0] if len(mine) == 1 else mine for mine in shown], [one.prompt for one in texts], options


@dataclass(frozen=True)
class PromptForms:
    """Every text that surrounds the user's prompt and the image. Recorded in `zreward.json`, so that scores can be repeated.

    Templates may use {prompt}, {title}, {name}, {question}, {anchors} and {levels}; `answer` uses {answer} too. `rubric` may use
    {levels} and {rubric}, which is every dimension with its question and anchors; `picture` may use {number} and {count}.
    """

    system: str = (
        "You are a careful judge of generated images. Judge one aspect at a time by its rubric. "
        "Scores are levels; the highest level is the best."
    )
    # Ends the system turn: the same for all images, prompts and dimensions.
    rubric: str = "\nThe levels are {levels}; what they mean for each aspect:\n\n{rubric}"
    # Before the dimension is named: shared by all dimensions.
    prompt: str = "The image was generated from this prompt: {prompt}"
    # After it: the dimension's own part. Its name comes last, because everything behind it is paid once per dimension.
    direct: str = "\n\nAnswer with one level. Aspect: {title}"
    reasoning: str = "\n\nDescribe the defects, then answer with one level. Aspect: {title}"
    # What the assistant's turn starts with when it reasons, unless the chat template already wrote it.
    reasoning_start: str = "<think>\n"
    # The trace ends here: sampled by the model or, when the budget runs out, appended.
    stop_marker: str = "</think>"
    # Forced; the label token follows.
    answer_prefix: str = "\n\nLevel: "
    # With a text here a second picture, the reference, comes before the image, and this text between the two.
    reference: str = ""
    # Before each picture where an item shows several. Pictures are counted from 1.
    picture: str = "Image {number}: "
    # In the place of `prompt` where an item shows several pictures.
    several: str = "\nThe last image was made from the images before it by this instruction: {prompt}"
    # In the place of `prompt` where an item has an answer, whatever it shows.
    answer: str = "Question: {prompt}\n\nAnswer: {answer}"

    def __post_init__(self) -> None:
        known = {"prompt", "title", "name", "question", "anchors", "levels"}
        for item in fields(self):
            text = getattr(self, item.name)
            if not isinstance(text, str):
                raise InputError(f"prompt forms: {item.name} is {shown(text)}, expected a text")
            if len(text) > _MOST_LETTERS:
                raise InputError(
                    f"prompt forms: {item.name} has {len(text):,} letters, expected at most {_MOST_LETTERS:,}"
                )
            check_unicode(text, f"prompt forms: {item.name}")
        for key in ("prompt", "several", "direct", "reasoning"):
            _check_template(key, getattr(self, key), known)
        _check_template("answer", self.answer, {*known, "answer"})
        _check_template("picture", self.picture, {"number", "count"})
        if "{answer}" not in self.answer:
            raise InputError("prompt forms: answer does not use {answer}; the answer would not be judged")
        _check_template("rubric", self.rubric, {"levels", "rubric"})
        if (times := self.rubric.count("{rubric}")) > 1:
            raise InputError(f"prompt forms: rubric names {{rubric}} {times} times, expected once; it is long enough")
        if not self.stop_marker.strip():
            raise InputError("prompt forms: stop_marker is empty; the trace would never end")

    @property
    def images(self) -> int:
        """Pictures of an item, where nothing else says how many: one, or two in a comparison."""
        return 2 if self.reference else 1

    def to_dict(self) -> dict[str, str]:
        """Field -> text."""
        return asdict(self)

    def digested(self) -> dict[str, str]:
        """What a fingerprint covers and `zreward.json` stores: `to_dict` without the texts that version 0.1 did not have.

        They are left out where they are the default, so these three defaults must not change.
        """
        new = {item.name: item.default for item in fields(self) if item.name in LATER}
        return {key: text for key, text in self.to_dict().items() if new.get(key) != text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PromptForms:
        """Forms from a mapping of field names to texts; one without `rubric` was written by version 0.1, with its defaults.

        InputError for an unknown field, or a value that is no text.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"prompt forms are {shown(data)}, expected names and texts")
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            raise InputError(
                f"prompt forms: unknown {shown(sorted(unknown))}; known are {[f.name for f in fields(cls)]}"
            )
        return cls(**data) if "rubric" in data else cls(**{**_VERSION_0_1, **data})


_VERSION_0_1 = {
    "rubric": "",
    "direct": "\n\n{title}: {question}\n{anchors}\nAnswer with one level only: {levels}.",
    "reasoning": (
        "\n\n{title}: {question}\n{anchors}\nFirst describe the defects you see, then answer with one level: {levels}."
    ),
}
"""The question and anchors of one dimension, behind the image."""


def _check_template(key: str, text: str, known: set[str]) -> None:
    """InputError unless a text holds plain fields only: a width would cost gigabytes, an attribute would look into objects."""
    try:
        found = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise InputError(f"prompt forms: {key}: {error}; write {{{{ for a brace") from None
    for _, name, width, conversion in found:
        if name not in known:
            raise InputError(f"prompt forms: {key} uses {shown([name])}; known fields are {sorted(known)}")
        if width or conversion:
            raise InputError(
                f"prompt forms: {key} changes {{{name}}} by a format or conversion; write {{{name}}} alone"
            )
    if len(found) > _MOST_FIELDS:
        raise InputError(f"prompt forms: {key} has {len(found):,} fields, expected at most {_MOST_FIELDS}")


def messages(
    prompt: str | Texts,
    dimension: Dimension,
    rubric: Rubric,
    forms: PromptForms,
    reasoning: bool,
    images: int | None = None,
) -> list[dict]:
    """The chat messages for one dimension, in the layout of Hugging Face chat templates.

    Args:
        prompt: the text that the image was generated from; the instruction of several; or a question and its answer.
        dimension: what is asked about.
        rubric: gives the labels that the answer may be.
        forms: the texts around them.
        reasoning: ask for a trace before the answer.
        images: pictures that the item shows; default `forms.images`.

    Returns:
        A system message (unless `forms.system` and `forms.rubric` are empty), then one of the user: image(s), prompt, question.
    """
    template = forms.reasoning if reasoning else forms.direct
    asked, count = Texts.of(prompt), forms.images if images is None else images
    values = {
        "prompt": asked.prompt,
        "title": dimension.title,
        "name": dimension.name,
        "question": dimension.question,
        "anchors": _anchors(dimension, rubric),
        "levels": ", ".join(rubric.labels),
    }
    about = forms.several if count > 1 and not forms.reference else forms.prompt
    if asked.answer is not None:
        about, values["answer"] = forms.answer, asked.answer
    content = [*_pictures(count, forms), _text(about.format(**values) + template.format(**values))]
    turns: list[dict] = [{"role": "user", "content": content}]
    if before := forms.system + _rubric(rubric, forms):
        turns.insert(0, {"role": "system", "content": [_text(before)]})
    return turns


def _pictures(count: int, forms: PromptForms) -> list[dict]:
    """The places of an item's pictures, each of several after its name."""
    image = {"type": "image"}
    if forms.reference:
        return [image, _text(forms.reference), image]
    if count <= 1:
        return [image] * count
    named = [(_text(forms.picture.format(number=number, count=count)), image) for number in range(1, count + 1)]
    return [part for pair in named for part in pair if part.get("text") != ""]


def _text(text: str) -> dict:
    return {"type": "text", "text": text}


def _rubric(rubric: Rubric, forms: PromptForms) -> str:
    """The part of the system turn that depends on the rubric."""
    if not forms.rubric:
        return ""
    parts = [f"{each.title}: {each.question}\n{_anchors(each, rubric, '')}" for each in rubric.dimensions]
    return forms.rubric.format(rubric="\n\n".join(parts), levels=", ".join(rubric.labels))


def _anchors(dimension: Dimension, rubric: Rubric, word: str = "level ") -> str:
    """One line per anchor, best first, each named by its label: the prompt speaks of the labels, never of raw scores."""
    bins = rubric.scale.bins.tolist()
    lines = []
    for score, text in sorted(dimension.anchors.items(), reverse=True):
        nearest = min(range(len(bins)), key=lambda k: abs(bins[k] - float(score)))
        lines.append(f"{word}{rubric.labels[nearest]}: {text}")
    return "\n".join(lines)
