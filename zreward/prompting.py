"""The conversation for a (rubric, dimension, prompt), in the direct and the reasoning form.

One order everywhere: system, image, prompt, then the dimension's question and the answer prefix. What the dimensions share
stands first, so that it can be encoded once. The score is read from the logits right after `answer_prefix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from string import Formatter
from typing import Any

from zreward.errors import InputError
from zreward.rubric import Dimension, Rubric


@dataclass(frozen=True)
class PromptForms:
    """Every text that surrounds the user's prompt and the image. Recorded in `zreward.json`, so that scores can be repeated.

    Templates may use {prompt}, {title}, {name}, {question}, {anchors} and {levels}.
    """

    system: str = (
        "You are a careful judge of generated images. Judge one aspect at a time by its rubric. "
        "Scores are levels; the highest level is the best."
    )
    # Before the dimension is named: shared by all dimensions.
    prompt: str = "The image was generated from this prompt: {prompt}"
    # After it: the dimension's own part.
    direct: str = "\n\n{title}: {question}\n{anchors}\nAnswer with one level only: {levels}."
    reasoning: str = (
        "\n\n{title}: {question}\n{anchors}\nFirst describe the defects you see, then answer with one level: {levels}."
    )
    # What the assistant's turn starts with when it reasons, unless the chat template already wrote it.
    reasoning_start: str = "<think>\n"
    # The trace ends here: sampled by the model or, when the budget runs out, appended.
    stop_marker: str = "</think>"
    # Forced; the label token follows.
    answer_prefix: str = "\n\nLevel: "
    # With a text here a second picture, the reference, stands before the image, and this text between the two.
    reference: str = ""

    def __post_init__(self) -> None:
        known = {"prompt", "title", "name", "question", "anchors", "levels"}
        for item in fields(self):
            if not isinstance(getattr(self, item.name), str):
                raise InputError(f"prompt forms: {item.name} is {getattr(self, item.name)!r}, expected a text")
        for key in ("prompt", "direct", "reasoning"):
            try:
                used = {name for _, name, _, _ in Formatter().parse(getattr(self, key)) if name is not None}
            except ValueError as error:
                raise InputError(f"prompt forms: {key}: {error}; write {{{{ for a brace") from None
            if not used <= known:
                raise InputError(f"prompt forms: {key} uses {sorted(used - known)}; known fields are {sorted(known)}")
        if not self.stop_marker.strip():
            raise InputError("prompt forms: stop_marker is empty; the trace would never end")

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PromptForms:
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            raise InputError(f"prompt forms: unknown {sorted(unknown)}; known are {[f.name for f in fields(cls)]}")
        return cls(**data)


def messages(prompt: str, dimension: Dimension, rubric: Rubric, forms: PromptForms, reasoning: bool) -> list[dict]:
    """The chat messages (system, then image + prompt + question) in the layout of Hugging Face chat templates."""
    template = forms.reasoning if reasoning else forms.direct
    values = {
        "title": dimension.title,
        "name": dimension.name,
        "question": dimension.question,
        "anchors": _anchors(dimension, rubric),
        "levels": ", ".join(rubric.labels),
    }
    text = forms.prompt.format(prompt=prompt, **values) + template.format(prompt=prompt, **values)
    content = [{"type": "image"}, {"type": "text", "text": text}]
    if forms.reference:
        content = [{"type": "image"}, {"type": "text", "text": forms.reference}, *content]
    turns: list[dict] = [{"role": "user", "content": content}]
    if forms.system:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": forms.system}]})
    return turns


def _anchors(dimension: Dimension, rubric: Rubric) -> str:
    """One line per anchor, best first, each named by its label: the prompt speaks of the labels, never of raw scores."""
    bins = rubric.scale.bins.tolist()
    lines = []
    for score, text in sorted(dimension.anchors.items(), reverse=True):
        nearest = min(range(len(bins)), key=lambda k: abs(bins[k] - float(score)))
        lines.append(f"level {rubric.labels[nearest]}: {text}")
    return "\n".join(lines)
