"""A folder of generated pictures: image files and pictures.jsonl, which says what each one was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zreward.errors import InputError

MANIFEST = "pictures.jsonl"


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The rows {image, prompt, seed, tags} of a folder's manifest. InputError, with the line, for what is not one.

    `tags` is a list of texts, empty where a line has none; other keys are left alone.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a line for every picture: "
            '{"image": "0.png", "prompt": "a red cube", "seed": 0}'
        ) from None
    return [_manifest_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _manifest_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        image, prompt, seed, tags = row["image"], row["prompt"], row["seed"], row.get("tags", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        image, prompt, seed, tags = None, None, None, None
    if not isinstance(image, str) or not isinstance(prompt, str) or not isinstance(seed, int):
        raise InputError(
            f"{path}, line {number}: expected a JSON object with a text image, a text prompt and a number seed"
        )
    if Path(image).name != image:
        raise InputError(f"{path}, line {number}: image {image!r} is not in the folder; expected a file name")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise InputError(f"{path}, line {number}: tags {tags!r}; expected a list of texts")
    return {"image": image, "prompt": prompt, "seed": seed, "tags": tags}
