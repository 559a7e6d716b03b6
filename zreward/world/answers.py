"""The world's task without pictures: a question about a scene in words, and an answer with defects of known severity.

    list the objects of a large red circle left of a small blue cross
    a large red circle ; a small green cross ; first left of second ; step by step

The second object has another colour, and the last clause says nothing. The truth of a dimension is 5 minus the points of its
defects, never below 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from zreward.world.grammar import COLOURS, OPPOSITE, SHAPES, SIZES, ObjectSpec, PromptSpec

SEVERITY: dict[str, dict[str, float]] = {
    "correctness": {"missing": 2.0, "shape": 1.5, "colour": 1.0, "size": 0.5, "relation": 1.5, "extra": 1.0},
    "brevity": {"repeated": 1.0, "filler": 0.5},
}
"""Points off 5 for each defect."""
FILLERS = ("step by step", "and so now", "the image")
COUNTS, WEIGHTS = (0, 1, 2, 3), (25, 35, 25, 15)  # defects of an answer in each dimension


@dataclass(frozen=True)
class Answer:
    """Clauses in order, and the defects in them."""

    objects: tuple[ObjectSpec, ...]
    relation: str | None
    added: tuple[str, ...] = ()  # clauses that say nothing new
    defects: tuple[tuple[str, str], ...] = ()  # (dimension, defect), one entry per occurrence

    @property
    def said(self) -> list[str]:
        """The clauses that say something."""
        return [f"a {one}" for one in self.objects] + [f"first {self.relation} second"] * (self.relation is not None)

    @property
    def text(self) -> str:
        return " ; ".join([*self.said, *self.added])

    def truth(self, dimension: str) -> float:
        """The true score in [1, 5]."""
        return max(1.0, 5.0 - sum(SEVERITY[dimension][defect] for of, defect in self.defects if of == dimension))


def question(scene: PromptSpec) -> str:
    """What is asked about a scene."""
    return f"list the objects of {scene.text}"


def sample_answer(scene: PromptSpec, rng: random.Random) -> Answer:
    """An answer to `question`, with zero to three defects in each dimension."""
    answer = Answer(scene.objects, scene.relation)
    for _ in range(_count(rng)):
        answer = _spoil(answer, rng.choice(("missing", "shape", "colour", "colour", "size", "relation", "extra")), rng)
    for _ in range(_count(rng)):
        repeated = rng.random() < 0.5
        clause = rng.choice(answer.said) if repeated else rng.choice(FILLERS)
        found = ("brevity", "repeated" if repeated else "filler")
        answer = replace(answer, added=(*answer.added, clause), defects=(*answer.defects, found))
    return answer


def _spoil(answer: Answer, defect: str, rng: random.Random) -> Answer:
    """One more defect, or the same answer where it cannot have this one (again)."""
    objects, relation, known = list(answer.objects), answer.relation, [name for _, name in answer.defects]
    index = rng.randrange(len(objects))
    if defect in known and defect != "extra":
        return answer
    if defect == "missing":
        if len(objects) == 1 or (relation is not None and index < 2 and "relation" in known):
            return answer
        objects.pop(index)
        relation = relation if index > 1 else None  # nothing is said of an object that is not named
    elif defect == "relation":
        if relation is None:
            return answer
        relation = OPPOSITE[relation]
    elif defect == "extra":
        if len(objects) > 3:
            return answer
        extra = ObjectSpec(rng.choice(SIZES), rng.choice(COLOURS), rng.choice(SHAPES))
        if extra in objects:  # it would be a repetition
            return answer
        objects.append(extra)
    else:
        options = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[defect]
        old = getattr(objects[index], defect)
        other = rng.choice([value for value in options if value != old])
        changed = ObjectSpec(**{**vars(objects[index]), defect: other})
        if changed in objects:
            return answer
        objects[index] = changed
    return replace(
        answer, objects=tuple(objects), relation=relation, defects=(*answer.defects, ("correctness", defect))
    )


def _count(rng: random.Random) -> int:
    return rng.choices(COUNTS, weights=WEIGHTS)[0]
