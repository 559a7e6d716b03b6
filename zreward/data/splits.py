"""Splitting by prompt, and refusing overlap between what is trained on and what is tested on."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from zreward.data.images import pixel_hashes
from zreward.data.record import Record
from zreward.errors import InputError


def normalised(prompt: str) -> str:
    """Prompts that differ in case or white space only are the same prompt."""
    return " ".join(prompt.casefold().split())


def split_by_prompt(
    records: Sequence[Record], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[Record]]:
    """Deal whole prompts to the named splits in these shares (which sum to 1); every split gets at least one prompt."""
    if (
        not fractions
        or any(not 0 < share <= 1 for share in fractions.values())
        or not math.isclose(sum(fractions.values()), 1)
    ):
        raise InputError(f"split fractions are {dict(fractions)}; expected shares above 0 that sum to 1")
    prompts = sorted({normalised(record.prompt) for record in records})
    if len(prompts) < len(fractions):
        raise InputError(f"{len(prompts)} prompts cannot be dealt to {len(fractions)} splits; give more prompts")
    random.Random(seed).shuffle(prompts)
    home: dict[str, str] = {}
    start, reached = 0, 0.0
    for position, (name, share) in enumerate(fractions.items()):
        reached += share
        left = len(fractions) - position - 1
        stop = max(start + 1, min(round(reached * len(prompts)), len(prompts) - left)) if left else len(prompts)
        home |= dict.fromkeys(prompts[start:stop], name)
        start = stop
    dealt: dict[str, list[Record]] = {name: [] for name in fractions}
    for record in records:
        dealt[home[normalised(record.prompt)]].append(record)
    return dealt


def check_disjoint(train: Sequence[Record], test: Sequence[Record]) -> None:
    """InputError when a prompt, or the same pixels, stand in both."""
    shared = {normalised(r.prompt) for r in train} & {normalised(r.prompt) for r in test}
    if shared:
        raise InputError(
            f"{len(shared)} prompts are in both train and test, for example {min(shared)!r}; split by prompt first"
        )
    known = set(pixel_hashes(r.image for r in train))
    for record, digest in zip(test, pixel_hashes(r.image for r in test), strict=True):
        if digest in known:
            raise InputError(
                f"an image of prompt {record.prompt!r} is in both train and test (same pixels); remove one"
            )
