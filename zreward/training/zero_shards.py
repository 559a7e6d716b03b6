"""A DeepSpeed optimizer that was saved by another number of processes: DeepSpeed's own universal form fits any number.

DeepSpeed 0.19.8 reads it with two faults under ZeRO-3, which are mended here: all parts count their steps in one tensor, so that
the count grows several times a step, and every group of parameters gets the first group's settings.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from zreward.common.bounded import read_bytes
from zreward.common.errors import InputError, shown
from zreward.common.files import atomic_folder, write_text
from zreward.common.runs import say

_TAG = "latest"  # the file by which DeepSpeed finds its shards
_LATEST = "latest_universal"  # and the converted ones


def fit_shards(accelerator: Accelerator, checkpoint: Path) -> None:
    """Before the engine is made: where the checkpoint's shards are of another number of processes, convert them.

    The converted copy lies in the checkpoint beside the original, in float32: 12 bytes per trained parameter.

    DeepSpeed reads its shards as pickles, which can run code: only those inside the checkpoint.

    Raises:
        InputError: the checkpoint has no optimizer that DeepSpeed wrote; one of its files names a folder elsewhere.
    """
    if accelerator.distributed_type is not DistributedType.DEEPSPEED:
        return
    if not (checkpoint / _TAG).exists():
        raise InputError(
            f"{checkpoint} was not written by DeepSpeed, so its optimizer cannot be gone on with; resume under the engine "
            "that the run was started with"
        )
    shards = _named(checkpoint, _TAG)
    saved_by = len(list(shards.glob("*_optim_states.pt")))
    if not saved_by:
        raise InputError(f"{shards} holds no optimizer of DeepSpeed (*_optim_states.pt); {_older(checkpoint)}")
    converted = (checkpoint / _LATEST).exists() and _named(checkpoint, _LATEST)
    if saved_by == accelerator.num_processes:
        return
    if accelerator.is_main_process and not converted:
        say(f"{shards} is of {saved_by} processes: it is converted for {accelerator.num_processes}")
        _convert(shards, checkpoint)
    accelerator.wait_for_everyone()
    accelerator.state.deepspeed_plugin.deepspeed_config["checkpoint"] = {"load_universal": True}


def _named(checkpoint: Path, file: str) -> Path:
    """The folder of shards that a file of the checkpoint names."""
    name = read_bytes(checkpoint / file, "the name of a folder", 1024).decode(errors="replace").strip()
    folder = checkpoint / name
    if "\0" in name or name == ".." or folder.parent != checkpoint or folder.is_symlink() or not folder.is_dir():
        raise InputError(
            f"{checkpoint / file} names {shown(name)}, expected a folder inside {checkpoint}; {_older(checkpoint)}"
        )
    return folder


def _older(checkpoint: Path) -> str:
    return f"delete {checkpoint} and use --resume, which goes on from the one before it, or from the start"


def _convert(shards: Path, checkpoint: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    universal = checkpoint / f"{shards.name}_universal"
    with atomic_folder(universal) as folder:
        options = {"num_extract_workers": 1, "num_merge_workers": 1, "keep_temp_folder": False, "strict": True}
        main(Namespace(input_folder=str(shards), output_folder=str(folder), inject_missing_state=True, **options))
    write_text(checkpoint / _LATEST, universal.name)


def settings_of(optimizer: Any) -> list[dict[str, Any]]:
    """Of each group of parameters, with how many it has."""
    return [
        {name: value for name, value in group.items() if name != "params"} | {"count": len(group["params"])}
        for group in optimizer.param_groups
    ]


def mend_read_shards(optimizer: Any, settings: Sequence[Mapping[str, Any]]) -> None:
    """After an engine has read its optimizer: a count of steps for every part, and the groups' own weight decay."""
    while hasattr(optimizer, "optimizer"):  # accelerate's and DeepSpeed's wrappers
        optimizer = optimizer.optimizer
    for state in optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()
    # ZeRO-3 leaves out empty ones, such as an adapter's without weight decay.
    if len(optimizer.param_groups) < len(settings):
        settings = [own for own in settings if own["count"]]
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group["weight_decay"] = own["weight_decay"]
