"""Defects whose dimension is known, offered by packages that draw their own pictures.

    [project.entry-points."zreward.audit_defects"]
    acme = "acme_rewards:known_defects"

`known_defects(prompts, seed)` returns `KnownDefect`s for prompts that are its own, and nothing for any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from zreward.common import registry


@dataclass(frozen=True)
class KnownDefect:
    """Pictures without and with one defect that concerns one dimension only.

    Args:
        name: such as "object missing".
        dimension: the one that it concerns.
        prompts: N texts.
        before: N pictures without it.
        after: the same pictures with it.
        points: what people take off for it, on a scale from 1 to 5.
    """

    name: str
    dimension: str
    prompts: Sequence[str]
    before: Sequence[Image.Image]
    after: Sequence[Image.Image]
    points: float


def known_defects(prompts: Sequence[str], dimensions: Sequence[str], seed: int) -> list[KnownDefect]:
    """What installed packages know of these prompts and of dimensions with these names."""
    found: list[KnownDefect] = []
    for name in registry.names(registry.AUDIT_DEFECTS):
        found += registry.find(registry.AUDIT_DEFECTS, name)(prompts, seed)
    return [defect for defect in found if defect.dimension in dimensions]
