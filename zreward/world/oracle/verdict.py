"""From what was read off a picture to the four scores of the rubric, with the severities of the world."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zreward.common.errors import InputError
from zreward.data.images import open_image
from zreward.world.grammar import PromptSpec, parse_prompt
from zreward.world.oracle.ground import read_ground
from zreward.world.oracle.objects import Found, find_objects
from zreward.world.renderer import CUT_SHIFT, CUT_SIDES, IMAGE_SIZE
from zreward.world.scenes import CELLS, DEGREES, SEVERITY


@dataclass(frozen=True)
class Reading:
    """A picture as the oracle reads it."""

    objects: tuple[Found, ...]
    defects: dict[str, tuple[str, ...]]  # dimension -> names of defects, as in `Scene.defects`

    def score(self, dimension: str) -> float:
        """5 minus the severities of the defects, never below 1."""
        return max(1.0, 5.0 - sum(SEVERITY[dimension][name] for name in self.defects[dimension]))


def read_picture(image: Image.Image | np.ndarray, prompt: str | PromptSpec) -> Reading:
    """Read a 32 x 32 picture (PIL, or floats (32, 32, 3) in [0, 1]) for a prompt of the world's grammar."""
    pixels = _pixels(image)
    spec = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    ground = read_ground(pixels)
    found, blur = find_objects(ground)
    degrees = {"noise": ground.noise, "blur": blur, "blocks": ground.blocks}
    looks = {"faded": ground.faded, "cut": _cut(found)}
    return Reading(
        tuple(found),
        {
            "alignment": _misalignment(found, spec),
            "realism": _graded(degrees),
            "aesthetics": (*_graded(looks), *(("harsh",) if ground.harsh else ())),
            "plausibility": tuple(
                name
                for thing in found
                for name in (
                    *((f"shadow {thing.shadow}",) if thing.shadow != "ok" else ()),
                    *(("split",) if thing.kind.split else ()),
                )
            ),
        },
    )


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, str | Path | Image.Image):
        image = np.asarray(open_image(image), np.float32) / 255
    pixels = np.asarray(image)
    if pixels.shape != (IMAGE_SIZE, IMAGE_SIZE, 3) or not np.isfinite(pixels).all():
        raise InputError(
            f"oracle: the picture has shape {pixels.shape}, expected finite ({IMAGE_SIZE}, {IMAGE_SIZE}, 3)"
        )
    return pixels.astype(np.float32)


def _graded(degrees: dict[str, int]) -> tuple[str, ...]:
    return tuple(f"{name} {DEGREES[degree]}" for name, degree in degrees.items() if degree)


def _cut(found: list[Found]) -> int:
    """The degree by which everything is moved off the four cells, in the direction that explains the places best."""
    if not found:
        return 0
    cells = np.array(list(CELLS.values()))
    places = np.array([(thing.x, thing.y) for thing in found])

    def misfit(degree: int, side: tuple[int, int]) -> float:
        moved = places - CUT_SHIFT[degree] * np.array(side)
        return float((np.linalg.norm(moved[:, None] - cells, axis=-1).min(1) ** 2).sum())

    return min((misfit(degree, side), degree) for degree in range(len(CUT_SHIFT)) for side in CUT_SIDES)[1]


def _misalignment(found: list[Found], prompt: PromptSpec) -> tuple[str, ...]:
    """The shortest account of what was found, and of the shortest the cheapest.

    It says which object stands for which of the prompt's, what is missing and what is extra.
    """
    roles = len(prompt.objects)
    slots: list[int | None] = [*range(len(found)), *[None] * roles]
    accounts = {_account(found, prompt, chosen) for chosen in permutations(slots, roles)}
    return min(accounts, key=lambda names: (len(names), sum(SEVERITY["alignment"][name] for name in names), names))


def _account(found: list[Found], prompt: PromptSpec, chosen: tuple[int | None, ...]) -> tuple[str, ...]:
    defects = []
    for spec, index in zip(prompt.objects, chosen, strict=True):
        if index is None:
            defects.append("missing")
            continue
        thing = found[index]
        seen = {"shape": thing.kind.shape, "colour": thing.colour, "size": thing.kind.size}
        defects += [name for name, value in seen.items() if value != getattr(spec, name)]
    if prompt.relation and chosen[0] is not None and chosen[1] is not None:
        defects += ["relation"] * (not _holds(prompt.relation, found[chosen[0]], found[chosen[1]]))
    return (*defects, *["extra"] * sum(index not in chosen for index in range(len(found))))


def _holds(relation: str, first: Found, second: Found) -> bool:
    """Whether the first object stands clearly on its side of the second, and more so than on any other."""
    right, down = second.x - first.x, second.y - first.y
    along, across = {
        "left of": (right, down),
        "right of": (-right, down),
        "above": (down, right),
        "below": (-down, right),
    }[relation]
    return along > abs(across)
