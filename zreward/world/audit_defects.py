"""The world's defects for `zreward audit`: pictures of a prompt without any, and with exactly one.

Defects that cost less than a point are left out: small models may miss them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from zreward.audit.known import KnownDefect
from zreward.common.errors import InputError
from zreward.world.grammar import COLOURS, SHAPES, ObjectSpec, PromptSpec, parse_prompt
from zreward.world.renderer import render
from zreward.world.scenes import DEGREES, SEVERITY, PlacedObject, Scene, clean_scene, free_centre

LEAST = 1.0  # points


def known_defects(prompts: Sequence[str], seed: int) -> list[KnownDefect]:
    """Every defect of at least a point, on pictures of the prompts that it fits; none where a prompt is not the world's."""
    try:
        specs = [parse_prompt(prompt) for prompt in prompts]
    except InputError:
        return []
    rng = random.Random(f"audit {seed}")
    scenes = [clean_scene(spec, rng) for spec in specs]
    found = []
    for dimension, severities in SEVERITY.items():
        for name, points in severities.items():
            if points < LEAST:
                continue
            pairs = [(scene, after) for scene in scenes if (after := with_defect(scene, dimension, name, rng))]
            if pairs:
                texts = [scene.prompt.text for scene, _ in pairs]
                clean, spoiled = [render(one) for one, _ in pairs], [render(other) for _, other in pairs]
                found.append(KnownDefect(name, dimension, texts, clean, spoiled, points))
    return found


def with_defect(scene: Scene, dimension: str, name: str, rng: random.Random) -> Scene | None:
    """A clean scene with this one defect, None where it cannot have it."""
    if dimension in ("realism", "aesthetics"):
        kind, _, degree = name.partition(" ")
        change: dict[str, Any] = {kind: DEGREES.index(degree) if degree else True}
        return replace(scene, **change, cut_side=rng.randrange(4))
    if dimension == "plausibility":
        number = rng.randrange(len(scene.objects))
        kind, _, how = name.partition(" ")
        return _with_object(scene, number, **({"shadow": how} if kind == "shadow" else {"split": True}))
    return _misaligned(scene, name, rng)


def _with_object(scene: Scene, number: int, **change: Any) -> Scene:
    objects = list(scene.objects)
    objects[number] = replace(objects[number], **change)
    return replace(scene, objects=tuple(objects))


def _misaligned(scene: Scene, name: str, rng: random.Random) -> Scene | None:
    asked = scene.prompt.objects
    if name == "missing":
        return replace(scene, objects=scene.objects[:-1]) if len(asked) > 1 else None
    if name in ("shape", "colour"):
        number = rng.randrange(len(asked))
        others = [value for value in (SHAPES if name == "shape" else COLOURS) if value != getattr(asked[number], name)]
        return _with_object(scene, number, **{name: rng.choice(others)}, wrong=(name,))
    if name == "relation":
        if scene.prompt.relation is None:
            return None
        first, second, *rest = scene.objects
        changed = (replace(first, centre=second.centre), replace(second, centre=first.centre), *rest)
        return replace(scene, objects=changed, relation_wrong=True)
    look, centre = _stranger(scene.prompt, rng), free_centre(scene.objects, rng)
    if name != "extra" or centre is None:
        return None
    return replace(scene, objects=(*scene.objects, PlacedObject("large", look.colour, look.shape, centre, None)))


def _stranger(prompt: PromptSpec, rng: random.Random) -> ObjectSpec:
    """An object of a colour and shape that the prompt does not name together."""
    named = {(one.colour, one.shape) for one in prompt.objects}
    free = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in named]
    return ObjectSpec("large", *rng.choice(free))
