"""Where a picture lies that a file of labels names: by a path, or as Label Studio writes it. Nothing is fetched.

Label Studio's references (/data/upload/..., /data/local-files/?d=..., both also below a sub-path or with a host) and other URLs
name a place on a server. Here the picture is the longest end of that path that is a file in the folder of pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, unquote_plus, urlsplit

from zreward.common.errors import InputError

_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before an uploaded file's name
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")
_LOCAL = "data/local-files"


def is_url(reference: str) -> bool:
    """Whether it names a place on a server: a URL with a host, or one of Label Studio's paths."""
    try:
        parts = urlsplit(reference)
    except ValueError:  # brackets that are no address
        return True
    slashed = f"/{parts.path.strip('/')}/"
    return bool(parts.netloc and parts.scheme) or f"/{_LOCAL}/" in slashed or "/data/upload/" in slashed


def image_path(reference: str, folder: Path) -> Path:
    """The file below `folder` that a reference means. InputError, with the places looked at, where there is none."""
    looked = []
    for path in _on_a_server(reference, folder) if is_url(reference) else _on_a_disk(reference, folder):
        looked.append(str(path))
        if _is_file(path):
            return path
    places = " or ".join(dict.fromkeys(looked[:4])) or "nowhere: it leads out of the folder"
    raise InputError(f"image {reference!r} is not here (looked for {places}); name the folder that holds the images")


def leads_out(path: str) -> bool:
    """Whether a path starts at a root, or goes up."""
    plain = path.replace("\\", "/")
    return plain.startswith("/") or bool(_DRIVE.match(path)) or ".." in PurePosixPath(plain).parts


def _on_a_disk(reference: str, folder: Path) -> Iterator[Path]:
    yield folder / reference
    if "\\" in reference:
        if not _DRIVE.match(reference):
            yield folder / reference.replace("\\", "/")
        yield folder / reference.replace("\\", "/").rpartition("/")[2]


def _on_a_server(reference: str, folder: Path) -> Iterator[Path]:
    """From the longest end of the path to the file's name alone; never out of the folder."""
    for path in _paths(reference):
        parts = [part for part in PurePosixPath(_DRIVE.sub("", path).replace("\\", "/")).parts if part.strip("/")]
        if ".." in parts:
            continue
        for start in range(len(parts)):
            yield folder.joinpath(*parts[start:])
        if parts and _UPLOAD.match(parts[-1]):
            yield folder / _UPLOAD.sub("", parts[-1], count=1)


def _paths(reference: str) -> Iterator[str]:
    """The path that a reference holds, as it may be encoded."""
    _, found, query = reference.partition("?d=")
    if found and _LOCAL in reference:
        yield unquote(query)
        yield unquote_plus(query)
        yield unquote_plus(query.partition("&")[0])
        return
    try:
        yield unquote(urlsplit(reference).path)
    except ValueError:
        return


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or no name at all
        return False
