"""What `zreward rubric check` says about a rubric: its parts, its labels in a tokenizer, and the text that a model is asked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from zreward.models.tokens import ConversationEncoder
from zreward.prompting import PromptForms, messages
from zreward.rubric import Rubric


def describe(rubric: Rubric) -> Iterator[str]:
    """The rubric in a few lines."""
    scale = rubric.scale
    yield f"rubric {rubric.name!r}, version {rubric.version}, fingerprint {rubric.fingerprint()}"
    yield f"scale: {scale.min:g} to {scale.max:g} in steps of {scale.step:g}, {len(scale)} bins"
    pairs = zip(scale.bins.tolist(), rubric.labels, strict=True)
    yield "labels: " + ", ".join(f"{score:g} is {label!r}" for score, label in pairs)
    for dimension in rubric.dimensions:
        yield f"dimension {dimension.name}: {dimension.title}; anchors at {', '.join(map(str, dimension.anchors))}"


def shown(rubric: Rubric, model: str | None, prompt: str, reasoning: bool) -> Iterator[str]:
    """The conversation of the first dimension. With a `model` its own forms, its chat template and its tokens are used.

    Raises InputError where a label is not one token.
    """
    dimension = rubric.dimensions[0]
    if model is None:
        forms = PromptForms()
        yield f"\nWhat a model with a chat template is asked about {dimension.name} (forms: the default ones):"
        for turn in messages(prompt, dimension, rubric, forms, reasoning):
            yield f"\n[{turn['role']}]"
            yield "".join(part.get("text", "<image>\n") for part in turn["content"])
        start = forms.reasoning_start if reasoning else ""
        yield f"\n[assistant]\n{start}{'...' + forms.stop_marker if reasoning else ''}{forms.answer_prefix}<label>"
        return
    encoder = encoder_of(model, rubric)
    ids = encoder.encode(prompt, dimension, reasoning)
    tokens = ", ".join(
        f"{label!r} is token {int(i)}" for label, i in zip(rubric.labels, encoder.label_ids, strict=True)
    )
    yield f"\nIn the tokenizer of {model}: {tokens}"
    yield f"What it is asked about {dimension.name} ({len(ids)} tokens; an image takes the place of its placeholder):\n"
    yield encoder.tokenizer.decode(ids)


def encoder_of(model: str, rubric: Rubric) -> ConversationEncoder:
    """How `model` would be asked with `rubric`. InputError where a label is not one token."""
    from zreward.models.reward_model import RewardModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a plain model is asked with the default rubric: it is not asked here
        loaded = RewardModel.from_pretrained(model, device="cpu")
    return ConversationEncoder(loaded.tokenizer, rubric, loaded.forms, loaded.encoder.image_token_id)
