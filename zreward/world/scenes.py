"""Scenes: what a picture of a prompt shows, with known defects in each of the four dimensions.

A scene is drawn from a prompt by sampling defects. Every defect has a name, belongs to one dimension and costs the points
of `SEVERITY`; the truth of a dimension is 5 minus the points lost there, never below 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from zreward.world.grammar import COLOURS, SHAPES, SIZES, ObjectSpec, PromptSpec

DIMENSIONS = ("alignment", "realism", "aesthetics", "plausibility")

SEVERITY: dict[str, dict[str, float]] = {
    "alignment": {"missing": 2.0, "shape": 1.5, "colour": 1.0, "size": 0.5, "relation": 1.5, "extra": 1.0},
    "realism": {
        "noise slight": 0.5,
        "noise strong": 2.0,
        "blur slight": 1.0,
        "blur strong": 2.5,
        "blocks slight": 0.5,
        "blocks strong": 1.5,
    },
    "aesthetics": {"faded slight": 0.5, "faded strong": 1.5, "harsh": 2.0, "cut slight": 0.5, "cut strong": 1.5},
    "plausibility": {"shadow missing": 1.0, "shadow opposite": 1.5, "shadow distant": 0.5, "split": 2.0},
}
"""Points off 5 for each defect; object-level defects (alignment's first four, all of plausibility's) count per object."""

DEGREES = ("none", "slight", "strong")
DEFECT_COUNTS, DEFECT_WEIGHTS = (0, 1, 2, 3), (25, 35, 25, 15)

# Centres of the four cells in pixels of a 32 x 32 canvas: (x, y).
CELLS = {(0, 0): (8.5, 8.5), (1, 0): (23.0, 8.5), (0, 1): (8.5, 23.0), (1, 1): (23.0, 23.0)}


@dataclass(frozen=True)
class PlacedObject:
    """An object as drawn. `role` is its index in the prompt (None: an extra one); `wrong` names how it differs from it."""

    size: str
    colour: str
    shape: str
    centre: tuple[float, float]
    role: int | None
    wrong: tuple[str, ...] = ()
    shadow: str = "ok"  # ok | missing | opposite | distant
    split: bool = False


@dataclass(frozen=True)
class Scene:
    """One picture's full description: enough to draw it, to know its truth and to explain it."""

    prompt: PromptSpec
    objects: tuple[PlacedObject, ...]
    relation_wrong: bool = False
    noise: int = 0  # index into DEGREES, as the next four
    blur: int = 0
    blocks: int = 0
    faded: int = 0
    cut: int = 0
    cut_side: int = 0  # 0 left, 1 right, 2 top, 3 bottom
    background: int = 0
    harsh: bool = False
    pixel_seed: int = 0

    def drawn(self, role: int) -> PlacedObject | None:
        """The object drawn for the prompt's object `role`, or None when it is missing."""
        return next((placed for placed in self.objects if placed.role == role), None)

    @property
    def extra(self) -> PlacedObject | None:
        return next((placed for placed in self.objects if placed.role is None), None)

    def defects(self, dimension: str) -> list[str]:
        """The names of this dimension's defects (keys of `SEVERITY[dimension]`), one entry per occurrence."""
        if dimension == "alignment":
            found = [name for placed in self.objects for name in placed.wrong]
            found += ["missing"] * sum(self.drawn(role) is None for role in range(len(self.prompt.objects)))
            found += ["relation"] * self.relation_wrong + ["extra"] * (self.extra is not None)
            return found
        if dimension == "plausibility":
            found = [f"shadow {placed.shadow}" for placed in self.objects if placed.shadow != "ok"]
            return found + ["split"] * sum(placed.split for placed in self.objects)
        if dimension == "aesthetics":
            degrees = {"faded": self.faded, "cut": self.cut}
            return [f"{name} {DEGREES[d]}" for name, d in degrees.items() if d] + ["harsh"] * self.harsh
        degrees = {"noise": self.noise, "blur": self.blur, "blocks": self.blocks}
        return [f"{name} {DEGREES[d]}" for name, d in degrees.items() if d]

    def truth(self, dimension: str) -> float:
        """The true score in [1, 5]: 5 minus the severities of this dimension's defects."""
        lost = sum(SEVERITY[dimension][name] for name in self.defects(dimension))
        return max(1.0, 5.0 - lost)


def sample_scene(prompt: PromptSpec, rng: random.Random) -> Scene:
    """Draw a scene for a prompt, with zero to three defects in each dimension."""
    scene = Scene(prompt, _layout(prompt, rng), background=rng.randrange(4), pixel_seed=rng.randrange(2**31))
    scene = _misalign(scene, _defect_count(rng), rng)
    for _ in range(_defect_count(rng)):
        degraded: dict[str, Any] = {rng.choice(("noise", "blur", "blocks")): rng.choice((1, 2))}
        scene = replace(scene, **degraded)
    for _ in range(_defect_count(rng)):
        defect = rng.choice(("faded", "harsh", "cut"))
        spoiled: dict[str, Any] = {defect: True if defect == "harsh" else rng.choice((1, 2))}
        scene = replace(scene, **spoiled, cut_side=rng.randrange(4))
    return _make_implausible(scene, _defect_count(rng), rng)


def clean_scene(prompt: PromptSpec, rng: random.Random) -> Scene:
    """Draw a scene for a prompt without any defect."""
    return Scene(prompt, _layout(prompt, rng), background=rng.randrange(4), pixel_seed=rng.randrange(2**31))


def free_centre(objects: tuple[PlacedObject, ...], rng: random.Random) -> tuple[float, float] | None:
    """A place for another object, None where all are taken."""
    cell = _free_cell(objects, rng)
    return _jitter(cell, rng) if cell is not None else None


def _defect_count(rng: random.Random) -> int:
    return rng.choices(DEFECT_COUNTS, weights=DEFECT_WEIGHTS)[0]


def _layout(prompt: PromptSpec, rng: random.Random) -> tuple[PlacedObject, ...]:
    """Put the prompt's objects into cells so that the relation holds."""
    line = rng.randrange(2)
    order = {
        "left of": [(0, line), (1, line)],
        "right of": [(1, line), (0, line)],
        "above": [(line, 0), (line, 1)],
        "below": [(line, 1), (line, 0)],
    }
    cells = order[prompt.relation] if prompt.relation else [rng.choice(list(CELLS))]
    free = [cell for cell in CELLS if cell not in cells]
    rng.shuffle(free)
    cells = (cells + free)[: len(prompt.objects)]
    return tuple(
        PlacedObject(o.size, o.colour, o.shape, _jitter(cell, rng), role)
        for role, (o, cell) in enumerate(zip(prompt.objects, cells, strict=True))
    )


def _jitter(cell: tuple[int, int], rng: random.Random) -> tuple[float, float]:
    x, y = CELLS[cell]
    return x + rng.uniform(-1, 1), y + rng.uniform(-1, 1)


def _free_cell(objects: tuple[PlacedObject, ...], rng: random.Random) -> tuple[int, int] | None:
    taken = {(round((o.centre[0] - 8.5) / 14.5), round((o.centre[1] - 8.5) / 14.5)) for o in objects}
    free = [cell for cell in CELLS if cell not in taken]
    return rng.choice(free) if free else None


def _misalign(scene: Scene, count: int, rng: random.Random) -> Scene:
    for _ in range(count):
        defect = rng.choices(("missing", "shape", "colour", "size", "relation", "extra"), weights=(2, 3, 3, 3, 2, 2))[0]
        objects = list(scene.objects)
        index = rng.randrange(len(objects))
        target = objects[index]
        if defect == "missing" and len(objects) > 1 and target.role is not None and not scene.relation_wrong:
            objects.pop(index)
        elif defect in ("shape", "colour", "size") and target.role is not None and defect not in target.wrong:
            options = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[defect]
            asked = getattr(scene.prompt.objects[target.role], defect)
            other = rng.choice([value for value in options if value != asked])
            changed: dict[str, Any] = {defect: other}
            objects[index] = replace(target, **changed, wrong=(*target.wrong, defect))
        elif defect == "relation" and scene.drawn(0) and scene.drawn(1) and not scene.relation_wrong:
            first, second = scene.drawn(0), scene.drawn(1)
            if first is None or second is None:
                continue
            moved = {0: replace(first, centre=second.centre), 1: replace(second, centre=first.centre)}
            objects = [moved.get(o.role, o) if o.role is not None else o for o in objects]
            scene = replace(scene, relation_wrong=True)
        elif defect == "extra" and scene.extra is None:
            cell = _free_cell(scene.objects, rng)
            if cell is not None:
                look = ObjectSpec(rng.choice(SIZES), rng.choice(COLOURS), rng.choice(SHAPES))
                asked_looks = {(o.colour, o.shape) for o in scene.prompt.objects}
                if (look.colour, look.shape) not in asked_looks:
                    objects.append(PlacedObject(look.size, look.colour, look.shape, _jitter(cell, rng), None))
        scene = replace(scene, objects=tuple(objects))
    return scene


def _make_implausible(scene: Scene, count: int, rng: random.Random) -> Scene:
    for _ in range(count):
        objects = list(scene.objects)
        index = rng.randrange(len(objects))
        defect = rng.choice(("missing", "opposite", "distant", "split"))
        change: dict[str, Any] = {"split": True} if defect == "split" else {"shadow": defect}
        objects[index] = replace(objects[index], **change)
        scene = replace(scene, objects=tuple(objects))
    return scene
