"""The world's prompts: one to three objects, each a size, a colour and a shape, and a relation between the first two."""

from __future__ import annotations

import random
from dataclasses import dataclass

from zreward.common.errors import InputError

SIZES = ("small", "large")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "cross")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class ObjectSpec:
    """What a prompt asks for: one object."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class PromptSpec:
    """A parsed prompt: one to three objects; `relation` holds between the first and the second."""

    objects: tuple[ObjectSpec, ...]
    relation: str | None = None

    @property
    def text(self) -> str:
        first, *rest = self.objects
        if not rest:
            return f"a {first}"
        text = f"a {first} {self.relation} a {rest[0]}"
        return text if len(rest) == 1 else f"{text} and a {rest[1]}"


def sample_prompt(rng: random.Random) -> PromptSpec:
    """Draw a prompt: one object (15 %), two (45 %) or three (40 %); no two objects share both colour and shape."""
    count = rng.choices((1, 2, 3), weights=(15, 45, 40))[0]
    objects: list[ObjectSpec] = []
    while len(objects) < count:
        candidate = ObjectSpec(rng.choice(SIZES), rng.choice(COLOURS), rng.choice(SHAPES))
        if all((candidate.colour, candidate.shape) != (other.colour, other.shape) for other in objects):
            objects.append(candidate)
    return PromptSpec(tuple(objects), rng.choice(RELATIONS) if count > 1 else None)


def sample_prompts(count: int, rng: random.Random, exclude: set[str] | None = None) -> list[PromptSpec]:
    """Draw `count` prompts with different texts, none of them in `exclude`."""
    seen: set[str] = set(exclude or ())
    prompts: list[PromptSpec] = []
    while len(prompts) < count:
        prompt = sample_prompt(rng)
        if prompt.text not in seen:
            seen.add(prompt.text)
            prompts.append(prompt)
    return prompts


def parse_prompt(text: str) -> PromptSpec:
    """The prompt that reads like this. Raises InputError for a text outside the grammar."""
    relation = next((name for name in RELATIONS if f" {name} " in text), None)
    first, _, rest = text.partition(f" {relation} ") if relation else (text, "", "")
    objects = []
    for part in [first, *rest.split(" and ")] if rest else [first]:
        words = part.split()
        if (
            len(words) != 4
            or words[0] != "a"
            or words[1] not in SIZES
            or words[2] not in COLOURS
            or words[3] not in SHAPES
        ):
            raise InputError(
                f"prompt {text!r} is not of the world's grammar at {part!r}; expected 'a SIZE COLOUR SHAPE', up to three of "
                "them: 'a large red circle left of a small blue cross and a small cyan square'"
            )
        objects.append(ObjectSpec(*words[1:]))
    if len(objects) > 3:
        raise InputError(f"prompt {text!r} names {len(objects)} objects; the world has at most three")
    return PromptSpec(tuple(objects), relation)


def vocabulary() -> list[str]:
    """Every word a prompt can contain."""
    return ["a", "and", *SIZES, *COLOURS, *SHAPES, *sorted({word for r in RELATIONS for word in r.split()})]
