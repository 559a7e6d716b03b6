"""What commands have in common: options, loading a model, writing a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zreward.errors import InputError

STDOUT = Path("-")
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this file; alone or with -, print it.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")]
Temperature = Annotated[float, typer.Option(help="Sampling temperature of the traces; 0 is greedy.")]
Dimensions = Annotated[str | None, typer.Option("--dimensions", help="Names, separated by commas; default all.")]


def load_model(name: str, device: str | None = None):
    from zreward.models.reward_model import RewardModel

    return RewardModel.from_pretrained(name, device=device)


def names_of(text: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def check_target(path: Path | None) -> None:
    """InputError where --json would write over something that is not JSON: an image, a data set, a folder."""
    if path and path != STDOUT and path.suffix != ".json" and path.exists():
        raise InputError(f"--json {path} would overwrite what is there; name a new file, or put --json last to print")


def check_suffix(option: str, path: Path | None, suffix: str) -> None:
    """InputError where a file's name promises another format than the one that is written."""
    if path and path.suffix.lower() != suffix:
        raise InputError(f"{option} {path}: expected a name that ends in {suffix}")


def save(path: Path, value: Any) -> None:
    from zreward.files import to_json, write_json

    if path == STDOUT:
        print(to_json(value))
    else:
        write_json(path, value)
