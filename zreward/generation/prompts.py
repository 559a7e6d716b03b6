"""Prompts to draw: from a file, or from a source that a package offers."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from zreward.common import registry
from zreward.common.errors import InputError
from zreward.common.text_files import read_text
from zreward.common.texts import is_blank


def load_prompts(source: str, seed: int, exclude: set[str] | None = None) -> list[str]:
    """Read or generate prompts.

    Args:
        source: a text file (one prompt per line), a .jsonl file (field `prompt`), or a registered source such as `acme:400`.
        seed: of a registered source.
        exclude: prompts that a registered source must not return.

    Raises:
        InputError: an unreadable file; a prompt that is empty, repeated or holds control characters, with its line.
    """
    parts = registry.split(source)
    sample = registry.find(registry.PROMPTS, parts[0]) if parts else None
    if parts and sample is not None:
        return sample(parts[1], seed, exclude or set())
    path = Path(source)
    lines = read_text(path, "prompts, one a line").split("\n")
    prompts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        prompt = _of_json(path, number, line) if path.suffix.lower() == ".jsonl" else line.strip(" ")
        bad = next((letter for letter in prompt if unicodedata.category(letter) in ("Cc", "Cs")), None)
        if bad is not None:
            raise InputError(f"prompts {path}, line {number}: control character {bad!r}; take it out")
        if is_blank(prompt) or prompt in prompts:
            what = f"the same as line {prompts[prompt]}" if prompt in prompts else "an empty prompt"
            raise InputError(f"prompts {path}, line {number}: {what}; expected different prompts")
        prompts[prompt] = number
    if not prompts:
        raise InputError(f"prompts {path}: holds no prompts; expected one a line")
    return list(prompts)


def _of_json(path: Path, number: int, line: str) -> str:
    try:
        found = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        raise InputError(f"prompts {path}, line {number}: expected a JSON object with a text `prompt`")
    return found
