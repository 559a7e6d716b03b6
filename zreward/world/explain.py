"""What a truthful observer would say about a scene, one trace per dimension: names of things seen, no score.

The base models learn to write these traces. They see and name; how many points each defect costs is not in them.
"""

from __future__ import annotations

from zreward.world.grammar import OPPOSITE
from zreward.world.renderer import IMAGE_SIZE
from zreward.world.scenes import DEGREES, PlacedObject, Scene

ROLES = ("first", "second", "third")
MIDDLE = IMAGE_SIZE / 2  # pixels


def explain(scene: Scene, dimension: str, places: bool = True) -> str:
    """The trace for a dimension, about 8 to 30 words, separated by spaces.

    Without `places` (how pretraining begins) it does not say where objects stand and how the first is drawn to the second.
    """
    if dimension == "alignment":
        return _alignment(scene, places)
    return {"realism": _realism, "aesthetics": _aesthetics, "plausibility": _plausibility}[dimension](scene)


def _alignment(scene: Scene, places: bool) -> str:
    parts = []
    for role in range(len(scene.prompt.objects)):
        placed = scene.drawn(role)
        if placed is None:
            parts.append(f"{ROLES[role]} missing")
            continue
        verdict = " ".join(placed.wrong) or "ok"
        where = f"{place(placed)} " * places
        parts.append(f"{ROLES[role]} {where}{placed.size} {placed.colour} {placed.shape} {verdict}")
    asked = scene.prompt.relation
    if asked and scene.drawn(0) and scene.drawn(1):
        drawn = OPPOSITE[asked] if scene.relation_wrong else asked
        found = f"{drawn.split()[0]} " * places
        parts.append(f"relation {found}{'wrong' if scene.relation_wrong else 'ok'}")
    extra = scene.extra
    parts.append(f"extra {extra.colour} {extra.shape}" if extra else "extra none")
    return " ; ".join(parts)


def place(placed: PlacedObject) -> str:
    """Which quarter of the picture, in the prompts' own words."""
    x, y = placed.centre
    return f"{'left' if x < MIDDLE else 'right'} {'above' if y < MIDDLE else 'below'}"


def _realism(scene: Scene) -> str:
    return f"noise {DEGREES[scene.noise]} ; blur {DEGREES[scene.blur]} ; blocks {DEGREES[scene.blocks]}"


def _aesthetics(scene: Scene) -> str:
    background = "harsh" if scene.harsh else "calm"
    return f"faded {DEGREES[scene.faded]} ; background {background} ; cut {DEGREES[scene.cut]}"


def _plausibility(scene: Scene) -> str:
    parts = []
    for placed in scene.objects:
        name = "extra" if placed.role is None else ROLES[placed.role]
        body = "split" if placed.split else "whole"
        parts.append(f"{name} {placed.colour} {body} shadow {placed.shadow}")
    return " ; ".join(parts)


def vocabulary() -> list[str]:
    """Every word of the traces that prompts do not have."""
    words = "missing ok relation wrong extra none noise blur blocks faded background harsh calm cut split whole shadow"
    return [*ROLES, *DEGREES[1:], *words.split(), "colour", "shape", "size", "opposite", "distant", ";"]
