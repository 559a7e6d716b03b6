"""From a checked folder to the Hugging Face model and tokenizer: safetensors only, no code of the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from zreward.common.errors import InputError, shorten
from zreward.models.adapters import WEIGHTS
from zreward.models.checkpoint_files import CONFIG, check_pickles
from zreward.models.empty import empty_network
from zreward.models.precision import set_tf32
from zreward.models.tower import followed
from zreward.models.weight_files import count_numbers, weight_files

_SPARE = 10**8  # numbers that a model may have beyond its weights' files (tables that are made, not stored)
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "tokenizer.model", "spiece.model")


def load_network(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    quantization: str | None,
    attn_implementation: str | None = None,
    empty: bool = False,
) -> Any:
    """The image-text-to-text model of a folder, on the device. InputError for weights that are missing or do not fit.

    `empty`: without reading its weights (`zreward.models.empty`).
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    if not os.path.lexists(folder / CONFIG):
        raise InputError(f"{folder} has no {CONFIG}: not a model, or incomplete; fetch or save it again")
    check_pickles(folder, "model.safetensors")
    if device.type == "cuda":
        set_tf32(False)  # float32 means float32; whoever wants TF32 allows it after loading
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    if quantization:
        options["quantization_config"] = _quantization(quantization, device)
        options["device_map"] = {"": device}
    with told_of(folder, "an image-text-to-text model"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_size(folder, config)
        if empty:
            chosen = {"attn_implementation": attn_implementation} if attn_implementation else {}
            return followed(empty_network(config, dtype, **chosen))
        parts: Any = AutoModelForImageTextToText.from_pretrained(
            folder, config=config, output_loading_info=True, local_files_only=True, **options
        )
    model, found = parts
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{folder}: {len(missing)} weights are missing, {missing[0]} among them; they would be random numbers. "
            "The checkpoint is damaged, or of another architecture"
        )
    return followed(model if quantization else model.to(device))


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise InputError(
            f"{folder} has no tokenizer (tokenizer.json): the checkpoint is incomplete, fetch or save it again"
        )
    with told_of(folder, "a tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer("x", add_special_tokens=False)  # some settings are only looked at here
        return tokenizer


def has_tokenizer(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in _TOKENIZERS) or any(folder.glob("*.tiktoken"))


def add_adapter(model: Any, folder: Path, trainable: bool) -> Any:
    """The model with a checked adapter on it. InputError unless every weight of the file has its place, and none is missing."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with told_of(folder, "an adapter of its base"):
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        expected = set(get_peft_model_state_dict(adapted))
    with safe_open(folder / WEIGHTS, "pt") as opened:
        given = set(opened.keys())
    if given != expected:
        wrong = sorted(given ^ expected)
        raise InputError(
            f"{folder / WEIGHTS}: {len(wrong)} weights are missing or have no place in the base, {shorten(wrong[0])} among them; "
            "the adapter is damaged, or belongs to another base"
        )
    return adapted


def _check_size(folder: Path, config: Any) -> None:
    """InputError where a model would be far larger than its weights: what is missing would be filled with random numbers."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        empty: Any = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    wanted, given = sum(value.numel() for value in empty.parameters()), count_numbers(folder)
    # Quantised weights are packed: up to eight to a number.
    if not weight_files(folder) or wanted > 8 * given + _SPARE:
        raise InputError(
            f"{folder}: {CONFIG} describes a model of {wanted:,} weights, its safetensors files hold {given:,}; it is "
            "damaged or incomplete"
        )


@contextmanager
def told_of(folder: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises about a damaged checkpoint, as one message: its own errors have every type."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = shorten((str(error).strip() or type(error).__name__).splitlines()[0], 300)
        raise InputError(
            f"{folder}: cannot be loaded as {kind} ({type(error).__name__}: {reason}); the checkpoint is damaged, or of "
            "another architecture"
        ) from error


def _quantization(name: str, device: torch.device):
    from transformers import BitsAndBytesConfig

    if name not in ("4bit", "8bit"):
        raise InputError(f"quantization {name!r} is unknown; expected '4bit' or '8bit'")
    if device.type != "cuda":
        raise InputError(f"quantization {name!r} needs a CUDA device, the device is {device}; leave it out")
    return BitsAndBytesConfig(load_in_4bit=name == "4bit", load_in_8bit=name == "8bit")
