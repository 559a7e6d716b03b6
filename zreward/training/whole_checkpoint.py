"""A checkpoint that a run goes on from, looked at before anything is trained: transformers passes over files that are not there,
and would go on with a new optimizer in silence.

Optimizer, scheduler and random states are read without running code (`weights_only`). Shards of FSDP and DeepSpeed are the
exception: their libraries read them as pickles, so runs under these engines are only to be resumed from trusted folders.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals

from zreward.common.bounded import check_regular, read_json
from zreward.common.errors import InputError, shown
from zreward.common.runs import step_of
from zreward.common.text_files import MAX_BYTES
from zreward.training.engines import DDP, NONE, engine_of


def check_checkpoint(checkpoint: Path, arguments: TrainingArguments) -> None:
    """InputError for a checkpoint whose files are damaged, missing, or another engine's.

    Args:
        checkpoint: the folder.
        arguments: with which the run goes on.
    """
    _check_log(checkpoint)
    if arguments.save_only_model:  # asked for: there is no optimizer
        return
    needed = {OPTIMIZER_NAME, SCHEDULER_NAME} if engine_of(arguments) in (NONE, DDP) else set()
    for file in sorted({checkpoint / name for name in needed} | set(checkpoint.glob("rng_state*.pth"))):
        _check_state(file)


def _check_state(file: Path) -> None:
    advice = _advice(file.parent)
    if not file.exists():
        raise InputError(
            f"{file} is not there, so the run cannot be gone on with as it was; resume under the engine that it was started "
            f"with, or {advice}"
        )
    check_regular(file, "what a trainer wrote")
    try:
        with safe_globals():
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, OSError):
        raise InputError(f"{file} is damaged, or holds more than numbers; {advice}") from None


def _check_log(checkpoint: Path) -> None:
    file = checkpoint / TRAINER_STATE_NAME
    found = read_json(file, MAX_BYTES)
    step, log = found.get("global_step"), found.get("log_history")
    if step != step_of(checkpoint) or isinstance(step, bool):
        raise InputError(f"{file}: global_step is {shown(step)}, expected {step_of(checkpoint)}; {_advice(checkpoint)}")
    if not isinstance(log, list) or not all(isinstance(row, Mapping) and _is_row(row) for row in log):
        raise InputError(f"{file}: log_history is not a list of steps with numbers; {_advice(checkpoint)}")


def _is_row(row: Mapping[str, Any]) -> bool:
    step = row.get("step")
    numbers = [value for name, value in row.items() if name.startswith(("dev_", "step", "epoch"))]
    return isinstance(step, int | float) and isfinite(step) and all(_is_number(value) for value in numbers)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _advice(checkpoint: Path) -> str:
    return f"delete {checkpoint} and use --resume, which goes on from the one before it, or from the start"
