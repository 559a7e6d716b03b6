"""What a folder of pictures is: one rule for every command that takes one.

Its pictures are the files whose suffix (in any case) is that of a format that `open_image` reads, in the natural order of
their names: 2.png before 10.png. Hidden files (`._0.png`, `.DS_Store`), other files and sub-folders are skipped, and named.
Where the folder holds a manifest, its pictures are those that the manifest lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.texts import is_blank
from zreward.data.images import suffixes
from zreward.data.manifest import PICTURE_LIST, read_manifest

_NAMED = 5  # skipped names in a note, of each kind


@dataclass(frozen=True)
class FolderPicture:
    """`seed` and `tags` come from the manifest."""

    path: Path
    prompt: str
    seed: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder in order, and what else was there: `note` is one line for the user, "" where nothing was."""

    pictures: tuple[Path, ...]
    note: str = ""


def list_pictures(folder: Path) -> Listing:
    """The pictures right in `folder`. InputError where it is no folder, cannot be read, or holds no picture."""
    entries = _entries(folder)
    known = suffixes()
    pictures, hidden, folders, others = [], [], [], []
    for entry in entries:
        if entry.name.startswith("."):
            hidden.append(entry)
        elif entry.is_dir():
            folders.append(entry)
        elif entry.suffix.lower() in known and entry.is_file():
            pictures.append(entry)
        elif entry.name != PICTURE_LIST:
            others.append(entry)
    skipped = [
        *_some(others, "not pictures"),
        *_some(hidden, "hidden"),
        *_some(folders, "folders, whose pictures are not read"),
    ]
    note = f"{printable(folder)}: skipped {'; '.join(skipped)}" if skipped else ""
    if not pictures:
        advice = f" ({note.partition(': ')[2]})" if note else ""
        raise InputError(
            f"{printable(folder)}: no pictures in it{advice}; expected files that end in {', '.join(known)}"
        )
    return Listing(tuple(pictures), note)


def read_folder(folder: Path, prompt: str | None = None) -> tuple[list[FolderPicture], str]:
    """The pictures of a folder with their prompts, and a note of what was skipped.

    The prompts are those of its manifest, or else `prompt`; InputError for both and for neither.
    """
    if not (folder / PICTURE_LIST).exists():
        _entries(folder)
        if prompt is None or is_blank(prompt):
            raise InputError(
                f"{folder}: there is no {PICTURE_LIST} in it; give --prompt, the text that its pictures were made from"
            )
        listing = list_pictures(folder)
        return [FolderPicture(path, prompt) for path in listing.pictures], listing.note
    if prompt is not None:
        raise InputError(f"{folder / PICTURE_LIST} says what its pictures were made from; leave --prompt out")
    return read_listed(folder)


def read_listed(folder: Path) -> tuple[list[FolderPicture], str]:
    """The pictures that a folder's manifest lists, and a note of those that it does not."""
    rows = read_manifest(folder)
    if not rows:
        raise InputError(f"{folder / PICTURE_LIST} lists no pictures")
    listed, known = {row["image"] for row in rows}, suffixes()
    left = [
        entry
        for entry in _entries(folder)
        if entry.suffix.lower() in known and entry.name not in listed and not entry.name.startswith(".")
    ]
    note = f"{printable(folder)}: skipped {_some(left, f'not in {PICTURE_LIST}')[0]}" if left else ""
    return [FolderPicture(folder / row["image"], row["prompt"], row["seed"], tuple(row["tags"])) for row in rows], note


def match_folders(before: Path, after: Path) -> tuple[list[tuple[FolderPicture, FolderPicture]], list[str]]:
    """The pictures of two folders with a manifest each, paired by prompt and seed in the order of `before`; and notes.

    InputError unless both have the same prompts and seeds, once each.
    """
    (first, note), (second, other_note) = _by_key(before), _by_key(after)
    lonely = [key for key in [*first, *second] if key not in first or key not in second]
    if lonely:
        prompt, seed = lonely[0]
        where = before if lonely[0] in first else after
        raise InputError(
            f"only {where} has a picture of {prompt!r} with seed {seed} ({len(lonely)} without a partner); draw the same "
            "prompts and seeds on both sides"
        )
    return [(picture, second[key]) for key, picture in first.items()], [text for text in (note, other_note) if text]


def _by_key(folder: Path) -> tuple[dict[tuple[str, int | None], FolderPicture], str]:
    pictures, note = read_listed(folder)
    found: dict[tuple[str, int | None], FolderPicture] = {}
    for picture in pictures:
        if is_blank(picture.prompt):
            raise InputError(f"{folder / PICTURE_LIST}: {picture.path.name} has an empty prompt")
        if (picture.prompt, picture.seed) in found:
            raise InputError(
                f"{folder / PICTURE_LIST}: prompt {picture.prompt!r} with seed {picture.seed} is there twice"
            )
        found[picture.prompt, picture.seed] = picture
    return found, note


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names as people count: a2 before a10, whatever the case."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def printable(path: Path | str) -> str:
    """A name on one line that every terminal can show."""
    text = str(path)
    return text if text.isprintable() else ascii(text)[1:-1]


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"{printable(folder)}: {'is a file, expected a folder' if folder.exists() else 'no such folder'}"
        )
    try:
        return sorted(folder.iterdir(), key=lambda entry: natural(entry.name))
    except OSError as error:
        raise InputError(f"{printable(folder)}: cannot be read: {error.strerror or error}") from None


def _some(entries: Sequence[Path], what: str) -> list[str]:
    names = ", ".join(printable(entry.name) for entry in entries[:_NAMED])
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return [f"{names}{more} ({what})"] if entries else []
