"""Devices and number formats by name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from zreward.common.errors import InputError, shown

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name; default CUDA when there is one, else the CPU. InputError unless it can be used here.

    The processes of torchrun and `accelerate launch` have a GPU each, by their number on the machine.
    """
    try:
        own = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
        found = torch.device(device or (own if torch.cuda.is_available() else "cpu"))
        if found.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which one depends on the device's backend
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device {str(device)!r} cannot be used: {reason}; expected cpu, or on a machine with such a GPU cuda or cuda:1"
        ) from error
    return found


def find_dtype(dtype: Any, device: torch.device) -> torch.dtype:
    """The format of that name; default bfloat16 on GPUs, float32 on CPUs."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"dtype {shown(dtype)} is unknown; expected one of {sorted(DTYPES)}")
    return DTYPES[dtype]


def warn_of_slow_formats(formats: Iterable[torch.dtype], device: torch.device) -> None:
    """A warning where the CPU has no instructions for bfloat16: torch multiplies some forty times more slowly than in float32."""
    if device.type == "cpu" and torch.bfloat16 in formats and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        warnings.warn(
            "this CPU has no instructions for bfloat16, in which the model computes: expect tens of times the time of float32. "
            "Load the model with dtype='float32'; in a recipe set model.dtype=float32, and leave trainer.bf16 out",
            stacklevel=3,
        )


def free_bytes(device: torch.device) -> float:
    """Memory that is free on a GPU, what torch holds unused included, or in the machine."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    import psutil

    return psutil.virtual_memory().available
