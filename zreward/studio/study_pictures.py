"""The pictures of a blind comparison: two folders matched by prompt and seed, and copied so that nothing gives a side away."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zreward.data.images import open_image
from zreward.data.manifest import MANIFEST, read_manifest
from zreward.errors import InputError
from zreward.files import atomic_path

FOLDER = "studies"


@dataclass(frozen=True)
class Matched:
    """The two pictures of one prompt and seed; `tags` are those of either side."""

    prompt: str
    tags: tuple[str, ...]
    before: Path
    after: Path


def match_pictures(before: Path, after: Path) -> list[Matched]:
    """The pictures of two folders with a pictures.jsonl each (image, prompt, seed, and tags if wanted).

    Matched as `zreward compare --judge` does it. InputError unless both have the same prompts and seeds, once each.
    """
    first, second = _rows(before), _rows(after)
    lonely = [key for key in [*first, *second] if key not in first or key not in second]
    if lonely:
        prompt, seed = lonely[0]
        where = before if lonely[0] in first else after
        raise InputError(
            f"study: only {where} has a picture of {prompt!r} with seed {seed} ({len(lonely)} without a partner); draw "
            "the same prompts and seeds on both sides"
        )
    return [
        Matched(key[0], tuple(dict.fromkeys((*tags, *second[key][1]))), path, second[key][0])
        for key, (path, tags) in first.items()
    ]


@contextmanager
def copies(folder: Path) -> Iterator[Copier]:
    """Copies into the project `folder`; they are removed again when the block does not end well."""
    copier = Copier(folder)
    try:
        yield copier
    except BaseException:
        for path in copier.made:
            path.unlink(missing_ok=True)
        raise


class Copier:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Path] = []

    def copy(self, path: Path) -> str:
        """The pixels alone, as a PNG file under a random name: no file name, format or metadata tells where they are from.

        Returns the path below the project folder.
        """
        picture = open_image(path)
        picture.info.clear()  # Pillow would write colour profiles and texts that came with the file
        name = f"{FOLDER}/{secrets.token_hex(16)}.png"
        with atomic_path(self.folder / name) as temporary:
            picture.save(temporary, format="PNG")
        self.made.append(self.folder / name)
        return name


def _rows(folder: Path) -> dict[tuple[str, int], tuple[Path, list[str]]]:
    found: dict[tuple[str, int], tuple[Path, list[str]]] = {}
    for row in read_manifest(folder):
        key = (row["prompt"], row["seed"])
        if key in found:
            raise InputError(f"{folder / MANIFEST}: prompt {key[0]!r} with seed {key[1]} is there twice")
        if not row["prompt"].strip():
            raise InputError(f"{folder / MANIFEST}: a picture has an empty prompt")
        found[key] = (folder / row["image"], row["tags"])
    if not found:
        raise InputError(f"{folder / MANIFEST} lists no pictures")
    return found
