"""Suites of a few pictures, and the plain loops that answer for them."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from zreward.data import Preference, Record, save_preferences, save_records

PROMPTS = ("a red circle", "a blue square", "two green triangles", "a large cross", "a small blue circle")


def picture(seed: int, size: int = 32) -> Image.Image:
    """Coloured squares with sharp edges: pictures of different seeds differ to the eye."""
    rng = random.Random(seed)
    small = Image.new("RGB", (8, 8))
    small.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(64)])
    return small.resize((size, size), Image.Resampling.NEAREST)


def records(folder: Path, per_prompt: int = 3) -> list[Record]:
    """Pictures as files, rated on two of the tiny rubric's dimensions by two raters."""
    rng, found = random.Random(0), []
    for p, prompt in enumerate(PROMPTS):
        for n in range(per_prompt):
            path = folder / f"{p}-{n}.png"
            picture(100 * p + n).save(path)
            scores = {name: [float(rng.randint(1, 5)) for _ in range(2)] for name in ("alignment", "realism")}
            found.append(Record(prompt, str(path), scores, id=f"r{p}-{n}", split="test"))
    return found


def preferences(folder: Path) -> list[Preference]:
    """All pairs of three pictures of a prompt, with votes and ties; the last two prompts are the dev split."""
    rng, found = random.Random(1), []
    for p, prompt in enumerate(PROMPTS):
        paths = [folder / f"{p}-{n}.png" for n in range(3)]
        for n, path in enumerate(paths):
            picture(100 * p + n).save(path)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            votes = {"a": rng.randrange(4), "b": rng.randrange(4), "tie": 1}
            split = "dev" if p > 2 else "test"
            found.append(Preference(prompt, (str(paths[a]), str(paths[b])), votes, split=split, id=f"p{p}/{a}-{b}"))
    return found


def write_records(folder: Path) -> Path:
    return save_records(records(folder), folder / "records.jsonl")


def write_preferences(folder: Path) -> Path:
    return save_preferences(preferences(folder), folder / "pairs.jsonl")
