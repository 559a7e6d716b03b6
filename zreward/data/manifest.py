"""The manifest of a folder of generated pictures: pictures.jsonl, which says what each one was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.common.text_files import read_text
from zreward.data.row_files import json_lines
from zreward.data.rows import SourceRow, parse_json

PICTURE_LIST = "pictures.jsonl"
_EXPECTED = "expected a JSON object with a text image, a text prompt and a number seed"


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The rows {image, prompt, seed, tags} of a folder's manifest. InputError, with the line, for what is not one.

    `tags` is a list of texts, empty where a line has none; other keys are left alone.
    """
    path = folder / PICTURE_LIST
    text = read_text(path, 'a line for every picture: {"image": "0.png", "prompt": "a red cube", "seed": 0}')
    return [_manifest_row(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def manifest_rows(folder: Path) -> Iterator[SourceRow]:
    """The lines of a folder's manifest as rows of records, one after the other. Pictures start where the folder lies."""
    for row in json_lines(folder / PICTURE_LIST, "an object with image, prompt and seed"):
        try:
            if row.data is not None:
                checked = _checked(row.place, row.data)
                data = {
                    "prompt": checked["prompt"],
                    "image": str(Path(folder.name, checked["image"])),
                    "tags": checked["tags"],
                }
                row = row._replace(data=data)
        except InputError as error:
            row = row._replace(data=None, error=str(error).removeprefix(f"{row.place}: "))
        yield row


def _manifest_row(path: Path, number: int, line: str) -> dict[str, Any]:
    place = f"{path}, line {number}"
    try:
        row = parse_json(line)
    except InputError as error:
        raise InputError(f"{place}: {_EXPECTED}; {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: {_EXPECTED}, not a {type(row).__name__}")
    return _checked(place, row)


def _checked(place: str, row: Mapping[str, Any]) -> dict[str, Any]:
    image, prompt, seed, tags = (row.get(key) for key in ("image", "prompt", "seed", "tags"))
    if not isinstance(image, str) or not isinstance(prompt, str) or type(seed) is not int:
        raise InputError(f"{place}: {_EXPECTED}")
    if Path(image).name != image or image in ("", ".", "..") or "\0" in image:
        raise InputError(f"{place}: image {image!r} is not in the folder; expected a file name")
    tags = [] if tags is None else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise InputError(f"{place}: tags {tags!r}; expected a list of texts")
    return {"image": image, "prompt": prompt, "seed": seed, "tags": tags}
