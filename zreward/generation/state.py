"""Checkpoints of an optimisation: weights, their average and AdamW's moments as safetensors, the rest as JSON; no pickle.

A checkpoint is written under a temporary name and renamed, so that a full disk or a kill leaves the one before it whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.files import atomic_folder

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(
    folder: Path,
    weights: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Write a checkpoint folder, whole or not at all. InputError where the disk refuses."""
    moments = {
        f"{name}|{moment}": optimizer.state[weight][moment].clone()
        for name, weight in weights.items()
        if weight in optimizer.state
        for moment in MOMENTS
    }
    try:
        with atomic_folder(folder) as temporary:
            for name, tensors in (("weights", weights), ("average", average), ("moments", moments)):
                save_file(
                    {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                    temporary / f"{name}.safetensors",
                )
            (temporary / "facts.json").write_text(json.dumps(facts))
    except InputError as error:
        raise InputError(
            f"{error}; the checkpoint before it is intact: free disk space and continue with --resume"
        ) from error


def load_state(
    folder: Path, weights: Mapping[str, Tensor], average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Read a checkpoint into the given tensors and optimizer; returns its facts. InputError when it does not fit."""
    try:
        stored = {name: load_file(folder / f"{name}.safetensors") for name in ("weights", "average", "moments")}
        facts = json.loads((folder / "facts.json").read_text())
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{folder}: not a complete checkpoint: {error}; delete it and resume from the one before"
        ) from error
    if stored["weights"].keys() != weights.keys():
        raise InputError(f"{folder}: holds the weights of another generator or adapter")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored["weights"][name])
            average[name].copy_(stored["average"][name])
            kept = {m: stored["moments"][f"{name}|{m}"] for m in MOMENTS if f"{name}|{m}" in stored["moments"]}
            if kept:
                optimizer.state[weight] = {
                    m: value if m == "step" else value.to(weight.device) for m, value in kept.items()
                }
    return facts
