"""The files of a diffusers pipeline, checked before anything reads them: one folder per part, no code, safetensors only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zreward.common import registry
from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.models.checkpoint_files import check_folder, check_no_code, check_pickles, find_folder

INDEX = "model_index.json"
_PATTERNS = ["*.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
_OTHER_FORMS = ["*.fp16.*", "*non_ema*"]  # of the same weights


def find_pipeline(name: str) -> Path:
    """The checked folder of a pipeline: local, of the hub without its Python files, or where a registered name leads."""
    folder = find_folder(registry.resolve(registry.GENERATORS, name, "pipeline folder"), _PATTERNS, _OTHER_FORMS)
    if not os.path.lexists(folder / INDEX):
        raise InputError(f"generator {name}: no {INDEX} in {folder}; expected a diffusers pipeline")
    check_folder(folder)
    check_no_code(folder)
    for part, value in read_json(folder / INDEX).items():
        if part == "_class_name":
            _check_pipeline(value, folder)
        elif isinstance(value, list):
            _check_part(part, value, folder)
    return folder


def _check_pipeline(name: Any, folder: Path) -> None:
    import diffusers

    if not isinstance(name, str) or not name.endswith("Pipeline") or not hasattr(diffusers, name):
        raise InputError(
            f"{folder / INDEX}: _class_name is {shown(name)}, which is no pipeline of the installed diffusers; zreward runs no "
            "code of a checkpoint"
        )


def _check_part(part: str, value: list[Any], folder: Path) -> None:
    """A part is [library, class]: of diffusers, one of its pipelines, or transformers; [null, null] is left out."""
    from diffusers import pipelines

    if len(value) != 2 or part != Path(part).name or part in ("", ".", ".."):
        raise InputError(f"{folder / INDEX}: {shown(part)} is {shown(value)}, expected [library, class]")
    library = value[0]
    if library is None:
        return
    known = library in ("diffusers", "transformers") or (isinstance(library, str) and library.isidentifier())
    if not known or (library not in ("diffusers", "transformers") and not hasattr(pipelines, library)):
        raise InputError(
            f"{folder / INDEX}: {part} comes from {shown(library)}; expected diffusers or transformers; zreward runs no "
            "code of a checkpoint"
        )
    place = folder / part
    if place.is_dir():
        check_folder(place)
        check_pickles(place, "safetensors")
