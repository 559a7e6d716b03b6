"""Pictures that are copied into a project, under names made of their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.files import atomic_path
from zreward.data.images import image_format, open_image
from zreward.studio.storage.project import Project

IMPORTED = "images/imported"  # below the project folder


def picture_bytes(image: Path | bytes) -> bytes:
    """The encoded bytes of a picture (a path, or bytes already). InputError where it cannot be read."""
    try:
        return image if isinstance(image, bytes) else image.read_bytes()
    except OSError as error:
        raise InputError(f"{image!s}: cannot be read: {error.strerror or error}") from error


def copy_new(project: Project, image: Path | bytes, key: str) -> str:
    """Copy a picture into a project that is being made. Returns the path below the project folder.

    Args:
        image: A path, or encoded bytes. The bytes are kept as they are, and checked by decoding them.
        key: The picture's name in the project; pictures with equal bytes and different keys get files of their own.

    Raises:
        InputError: it cannot be read, or is no picture.
    """
    content = picture_bytes(image)
    try:
        open_image(content)
    except InputError as error:
        raise InputError(f"{key if isinstance(image, bytes) else image}: {error}") from None
    digest = hashlib.sha256(content + key.encode()).hexdigest()[:32]
    name = f"images/{digest}.{image_format(content).lower()}"
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return name


def copy_imported(project: Project, content: bytes, digest: str, suffix: str) -> tuple[str, bool]:
    """Write an imported picture's bytes unless they are there.

    Returns:
        The path below the project folder, and whether a file was made.
    """
    name = f"{IMPORTED}/{digest[:32]}{suffix}"
    path = project.folder / name
    if path.exists():
        return name, False
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return name, True
