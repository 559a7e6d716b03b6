"""Pictures of the project, shrunk to the widths that pages show, made once and kept in the project folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from zreward.common.files import atomic_path
from zreward.data.images import open_image
from zreward.studio.storage.project import Project

WIDTHS = (160, 320, 640, 1280)  # pixels; larger pictures are shrunk to fit, smaller ones stay
CACHE = ".cache"


@dataclass(frozen=True)
class ShrunkPicture:
    """A picture at one width. `version` changes when the original's file does; `path` is where the PNG is kept."""

    original: Path
    path: Path
    version: str
    width: int

    def make(self) -> None:
        """Write the PNG unless it is there, at most `width` wide and high. InputError for a file that is no picture."""
        if self.path.exists():
            return
        picture = open_image(self.original)
        picture.thumbnail((self.width, self.width))
        with atomic_path(self.path) as temporary:
            picture.save(temporary, format="PNG")


def find_shrunk(project: Project, relative: str, width: int) -> ShrunkPicture:
    """Where the picture at `relative` (below the project folder) is kept at a width in pixels; nothing is made yet.

    Raises:
        InputError: the path lies outside the project.
        OSError: there is no such file.
    """
    original = project.file(relative)
    state = original.stat()
    about = f"{relative} {state.st_mtime_ns} {state.st_size} {width}"
    version = hashlib.sha256(about.encode()).hexdigest()[:32]
    return ShrunkPicture(original, project.folder / CACHE / version[:2] / f"{version}.png", version, width)
