"""What the dry runs of trainings, generators, targets and scores have in common."""

from __future__ import annotations

import os
from pathlib import Path

from zreward.common.errors import InputError
from zreward.models.names import find_model

SMALL = 1 << 30  # bytes of weights that are quickly loaded


def check_free(run: Path) -> None:
    """InputError where a run could not be written to this folder."""
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} is a file; a run is a folder, choose another out=")
    if run.is_dir() and any(run.iterdir()):
        raise InputError(f"{run} is not empty; add --resume to continue it, or choose another out=")
    check_writable(run, "out=")


def check_writable(place: Path, option: str) -> None:
    """InputError where a folder could not be made or filled at this place; `option` names it."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{place}: {there} cannot be written to; choose another {option}")


def warm_up_notes(steps: int, warmup_steps: int) -> list[str]:
    """A sentence where a run ends before its warm-up does. No error: short trials keep the default."""
    if warmup_steps < steps:
        return []
    return [
        f"optimizer.warmup_steps is {warmup_steps} and optimizer.steps {steps}: the run ends while the learning rate still "
        "rises to optimizer.learning_rate; set fewer warm-up steps, or more steps"
    ]


def is_small(name: str) -> bool:
    """Whether a model lies in a folder of this machine, with weights that are quickly loaded.

    InputError for a name that can only be a folder, and is not there.
    """
    folder = Path(find_model(name))
    if not folder.exists() and (folder.is_absolute() or name.startswith(".") or name.count("/") != 1):
        raise InputError(f"{name}: no such checkpoint folder")
    return folder.is_dir() and sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= SMALL
