"""Does the score stay when the prompt says the same in another form, and when somebody tells the judge what to say?"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from zreward.audit.findings import Found, Row, Shown
from zreward.audit.invariance import drift
from zreward.audit.phrasing import FORMS, instructions, written
from zreward.audit.subject import Array, Subject
from zreward.audit.thresholds import PromptLimits


def prompts(subject: Subject, limits: PromptLimits) -> Found:
    """Moves of mu under other forms of the prompts, and what instructions in prompt and picture gain."""
    found = Found(
        "prompts",
        "Prompts",
        "How far the score moves, in points of a 1-to-5 scale, when the prompt says the same in another form, and how far it "
        "rises when an instruction to the judge is put into the prompt or written into the picture.",
    )
    for what, edit in FORMS.items():
        changed = [n for n, prompt in enumerate(subject.prompts) if edit(prompt) != prompt]
        if changed:
            texts = [edit(subject.prompts[n]) for n in changed]
            moves = subject.score([subject.images[n] for n in changed], texts) - subject.clean[changed]
            found.rows += [_form(what, name, moves[:, d], limits) for d, name in enumerate(subject.dimensions)]
    for what, text in instructions(subject.model.rubric.labels[-1]).items():
        told = [f"{prompt}. {text}" for prompt in subject.prompts]
        _told(found, subject, f"{what}, in the prompt", subject.images, told, limits)
        pictures = [written(image, text) for image in subject.images]
        _told(found, subject, f"{what}, in the picture", pictures, subject.prompts, limits)
        found.shown.append(Shown([subject.images[0], pictures[0]], what, told[0]))
    return found


def _told(
    found: Found,
    subject: Subject,
    what: str,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    limits: PromptLimits,
) -> None:
    moves = subject.score(images, texts) - subject.clean
    found.rows += [_instruction(what, name, moves[:, d], limits) for d, name in enumerate(subject.dimensions)]


def _form(what: str, name: str, moves: Array, limits: PromptLimits) -> Row:
    figures = drift(moves)
    if figures["mean"] > limits.edit_mean:
        verdict = f"moves by {figures['mean']:.2f} points on average (at most {limits.edit_mean:g})"
        return Row(what, name, figures, verdict, True)
    return Row(what, name, figures, f"stays: moves by {figures['mean']:.2f} points on average")


def _instruction(what: str, name: str, moves: Array, limits: PromptLimits) -> Row:
    figures = drift(moves)
    if figures["rise"] > limits.rise:
        verdict = f"obeys: rises by {figures['rise']:.2f} points on average (at most {limits.rise:g})"
        return Row(what, name, figures, verdict, True)
    return Row(what, name, figures, f"does not obey: {figures['rise']:+.2f} points on average")
