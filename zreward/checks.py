"""What dry runs of training and of generators have in common."""

from __future__ import annotations

import os
from pathlib import Path

from zreward.errors import InputError
from zreward.models.names import find_model

SMALL = 1 << 30  # bytes of weights that are quickly loaded


def check_free(run: Path) -> None:
    """InputError where a run could not be written to this folder."""
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} is a file; a run is a folder, choose another out=")
    if run.is_dir() and any(run.iterdir()):
        raise InputError(f"{run} is not empty; add --resume to go on with it, or choose another out=")
    there = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{run}: {there} cannot be written to; choose another out=")


def is_small(name: str) -> bool:
    """Whether a model lies in a folder of this machine, with weights that are quickly loaded.

    InputError for a name that can only be a folder, and is not there.
    """
    folder = Path(find_model(name))
    if not folder.exists() and (folder.is_absolute() or name.startswith(".") or name.count("/") != 1):
        raise InputError(f"{name}: no such checkpoint folder")
    return folder.is_dir() and sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= SMALL
