"""The world's task with two pictures: a scene, an instruction, and the scene after it, with defects of known severity.

    the large red circle left above now blue

Dimensions: was the instruction followed, and is the rest as it was. The truth of each is 5 minus the points of its defects,
never below 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from zreward.world.explain import place
from zreward.world.grammar import COLOURS, SHAPES, SIZES, sample_prompt
from zreward.world.scenes import PlacedObject, Scene, clean_scene

SEVERITY: dict[str, dict[str, float]] = {
    "instruction": {"ignored": 3.0, "other value": 2.0, "other object": 3.0},
    "preservation": {
        "missing": 2.0,
        "shape": 1.5,
        "colour": 1.0,
        "size": 0.5,
        "background": 1.5,
        "noise": 2.0,
        "blur": 1.0,
    },
}
"""Points off 5 for each defect."""
VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}
COUNTS, WEIGHTS = (0, 1, 2, 3), (35, 35, 20, 10)  # defects in what should have stayed


@dataclass(frozen=True)
class Instruction:
    """One object of a scene gets another colour, shape or size."""

    before: Scene
    role: int  # which object
    attribute: str  # of VALUES
    value: str

    @property
    def text(self) -> str:
        target = self.before.objects[self.role]
        return f"the {_look(target)} {place(target)} now {self.value}"


@dataclass(frozen=True)
class Edit:
    """The scene after an instruction, and what is wrong with it."""

    after: Scene
    defects: tuple[tuple[str, str], ...] = ()  # (dimension, defect), one entry per occurrence

    def truth(self, dimension: str) -> float:
        """The true score in [1, 5]."""
        return max(1.0, 5.0 - sum(SEVERITY[dimension][defect] for of, defect in self.defects if of == dimension))


def sample_instruction(rng: random.Random) -> Instruction:
    """A clean scene of two or three objects, and what is to change in it."""
    prompt = sample_prompt(rng)
    while len(prompt.objects) == 1:
        prompt = sample_prompt(rng)
    before = clean_scene(prompt, rng)
    role, attribute = rng.randrange(len(before.objects)), rng.choice(("colour", "colour", "shape", "shape", "size"))
    old = getattr(before.objects[role], attribute)
    return Instruction(before, role, attribute, rng.choice([value for value in VALUES[attribute] if value != old]))


def sample_edit(asked: Instruction, rng: random.Random) -> Edit:
    """A result of the instruction: half of the time as asked, with zero to three defects in the rest."""
    objects, defects = list(asked.before.objects), []
    role, value = asked.role, asked.value
    followed = rng.choices(("ok", *SEVERITY["instruction"]), weights=(45, 20, 20, 15))[0]
    others = [n for n in range(len(objects)) if n != role]
    options = [one for one in VALUES[asked.attribute] if one not in (value, getattr(objects[role], asked.attribute))]
    if (followed == "other value" and not options) or (followed == "other object" and not _may_change(asked, others)):
        followed = "ignored"
    touched = set() if followed == "ignored" else {role}
    if followed == "other value":
        value = rng.choice(options)
    if followed == "other object":
        role = rng.choice(_may_change(asked, others))
        touched = {role}
        defects.append(("preservation", asked.attribute))
    if followed != "ok":
        defects.append(("instruction", followed))
    if followed != "ignored":
        objects[role] = _changed(objects[role], asked.attribute, value)
    after = replace(asked.before, objects=tuple(objects), pixel_seed=rng.randrange(2**31))
    return _disturb(Edit(after, tuple(defects)), asked.role, touched, rng)


def _may_change(asked: Instruction, others: list[int]) -> list[int]:
    """Other objects that do not have the value yet."""
    return [n for n in others if getattr(asked.before.objects[n], asked.attribute) != asked.value]


def _disturb(edit: Edit, target: int, touched: set[int], rng: random.Random) -> Edit:
    """Defects in what should have stayed, each once, in objects that nothing has touched yet."""
    after, defects = edit.after, list(edit.defects)
    for defect in rng.sample(sorted(SEVERITY["preservation"]), rng.choices(COUNTS, weights=WEIGHTS)[0]):
        free = [n for n, one in enumerate(after.objects) if one.role is not None and one.role not in touched | {target}]
        if defect in VALUES:
            if not free:
                continue
            index = rng.choice(free)
            one = after.objects[index]
            other = rng.choice([value for value in VALUES[defect] if value != getattr(one, defect)])
            objects = [*after.objects[:index], _changed(one, defect, other), *after.objects[index + 1 :]]
            after = replace(after, objects=tuple(objects))
            touched = touched | {one.role} if one.role is not None else touched
        elif defect == "missing":
            if not free:
                continue
            index = rng.choice(free)
            after = replace(after, objects=(*after.objects[:index], *after.objects[index + 1 :]))
        elif defect == "background":
            after = replace(after, harsh=True)
        else:
            after = replace(after, noise=2) if defect == "noise" else replace(after, blur=1)
        defects.append(("preservation", defect))
    return replace(edit, after=after, defects=tuple(defects))


def _changed(one: PlacedObject, attribute: str, value: str) -> PlacedObject:
    change = {attribute: value}
    return replace(one, **change)  # type: ignore[arg-type]


def _look(one: PlacedObject) -> str:
    return f"{one.size} {one.colour} {one.shape}"
