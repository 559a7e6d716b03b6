"""The pictures of a blind comparison: two folders matched by prompt and seed, and copied so that nothing gives a side away."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zreward.common.files import atomic_path
from zreward.data.folders import match_folders
from zreward.data.images import open_image

FOLDER = "studies"


@dataclass(frozen=True)
class Matched:
    """The two pictures of one prompt and seed; `tags` are those of either side."""

    prompt: str
    tags: tuple[str, ...]
    before: Path
    after: Path


def match_pictures(before: Path, after: Path) -> list[Matched]:
    """The pictures of two folders, as `match_folders` pairs them."""
    return [
        Matched(one.prompt, tuple(dict.fromkeys((*one.tags, *other.tags))), one.path, other.path)
        for one, other in match_folders(before, after)[0]
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
