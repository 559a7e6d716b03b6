"""Records and recipes for commands, and what a complaint looks like."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def records(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(image: Path, **changes) -> dict:
    return {"prompt": "a red circle", "image": str(image), "scores": {"realism": 3}} | changes


def recipe(path: Path, data: Path, **changes) -> Path:
    raw = {
        "method": "sft",
        "out": str(path.parent / "run"),
        "data": {"train": str(data)},
        "model": {"name": "world:small"},
        "optimizer": {"steps": 1, "batch_size": 2},
    }
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def complains(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one message that holds the words, no traceback."""
    code, _, err = result
    assert code == 2, err
    assert "Traceback" not in err
    message = " ".join(err.split())
    assert message.count("zreward: ") == 1, message
    for word in words:
        assert word in message
