"""Checkpoints: an ordinary Hugging Face folder (or PEFT adapter) plus `zreward.json`; safetensors only, no remote code."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from zreward.errors import InputError
from zreward.files import atomic_folder
from zreward.models.layouts import ImageLayout, layout_of
from zreward.models.names import find_model
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

SCHEMA_VERSION = 1
META_FILE = "zreward.json"


def load(
    path: str | Path,
    rubric: Rubric | None = None,
    forms: PromptForms | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: str | None = None,
    resolution: ResolutionPolicy | None = None,
    max_trace_tokens: int | None = None,
    trainable_adapter: bool = False,
) -> RewardModel:
    """Load a checkpoint or adapter by its name: a folder, a hub name, or a registered one (see `zreward.models.names`).

    A model without `zreward.json` is asked with the default rubric, with a warning.

    Args:
        rubric: for a model without `zreward.json` (default: the default rubric); for a checkpoint it must be the same rubric.
        forms: prompt forms, for a model without `zreward.json`.
        device: such as "cpu" or "cuda:1"; default CUDA when there is one, else the CPU.
        dtype: "float64", "float32", "bfloat16" or "float16"; default what the checkpoint recorded, else bfloat16 on GPUs,
            float32 on CPUs.
        quantization: "4bit" or "8bit" (bitsandbytes; GPUs only).
        resolution: overrides the recorded policy.

    Raises InputError: missing folder, a device that cannot be used, another rubric, newer schema, labels of several tokens,
    unsupported model.
    """
    path = find_model(path)
    device, folder = find_device(device), Path(path)
    meta = _read_meta(path, folder)
    if meta and rubric and rubric.fingerprint() != Rubric.from_dict(meta["rubric"]).fingerprint():
        mine = Rubric.from_dict(meta["rubric"])
        raise InputError(
            f"{path}: the checkpoint was trained with rubric {mine.name!r} version {mine.version} "
            f"({mine.fingerprint()}), but {rubric.name!r} version {rubric.version} ({rubric.fingerprint()}) was asked for; "
            "use the checkpoint's own rubric, or train a model with the new one"
        )
    if meta:
        rubric, forms = Rubric.from_dict(meta["rubric"]), PromptForms.from_dict(meta["forms"])
        resolution = resolution or ResolutionPolicy(**meta["resolution"])
        max_trace_tokens = max_trace_tokens or meta["max_trace_tokens"]
        dtype = dtype or meta.get("dtype")
        quantization = quantization or meta.get("quantization")
    model, tokenizer = _load_parts(path, folder, device, _dtype(dtype, device), quantization, trainable_adapter)
    reward_model = RewardModel(
        model,
        tokenizer,
        rubric or Rubric.default(),
        forms,
        resolution,
        _recorded_layout(path, folder, model),
        max_trace_tokens or 512,
    )
    if not meta and rubric is None:
        warnings.warn(
            f"{path} brings no {META_FILE} and no rubric was given: it is asked with the default rubric", stacklevel=3
        )
    return reward_model.eval()


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name; default CUDA when there is one, else the CPU. InputError unless it can be used here."""
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if found.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which one depends on the device's backend
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used: {reason}; expected cpu, cuda or cuda:1") from error
    return found


def save(reward_model: RewardModel, path: str | Path, state_dict: dict[str, torch.Tensor] | None = None) -> None:
    """Write the checkpoint under a temporary name beside `path`, then put it in place of the one that stands there, as a whole.

    `state_dict` (the Hugging Face model's names) replaces the module's own, where an engine gathered shards.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a checkpoint is a folder, choose another name")
    if path.is_dir() and any(path.iterdir()) and not _is_checkpoint(path):
        raise InputError(f"{path} is a folder that holds no checkpoint; choose another name, or empty it")
    with atomic_folder(path) as folder:
        reward_model.backbone.model.save_pretrained(folder, state_dict=state_dict)
        reward_model.tokenizer.save_pretrained(folder)
        _save_preprocessor(reward_model, folder)
        (folder / META_FILE).write_text(json.dumps(metadata(reward_model), indent=2))


def load_weights(reward_model: RewardModel, folder: Path) -> None:
    """Put a checkpoint's weights (all of them, or the adapter's) into a model of the same shape, for resuming."""
    from safetensors.torch import load_file

    model = reward_model.backbone.model
    if hasattr(model, "peft_config"):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        return
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # Tied weights are stored once: they are "missing" under their second name.
    really_missing = set(missing) - set(getattr(model, "all_tied_weights_keys", None) or {})
    if really_missing or unexpected:
        raise InputError(
            f"{folder}: weights do not fit the model: missing {sorted(really_missing)[:3]}, unexpected {unexpected[:3]}"
        )


def metadata(reward_model: RewardModel) -> dict[str, Any]:
    """What `zreward.json` holds."""
    from zreward import __version__

    dtype = next(p for p in reward_model.parameters() if p.is_floating_point()).dtype
    return {
        "schema_version": SCHEMA_VERSION,
        "zreward_version": __version__,
        "rubric": reward_model.rubric.to_dict(),
        "forms": reward_model.forms.to_dict(),
        "resolution": asdict(reward_model.resolution),
        "max_trace_tokens": reward_model.max_trace_tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": getattr(reward_model, "quantization", None),
    }


def _is_checkpoint(path: Path) -> bool:
    return any((path / name).exists() for name in (META_FILE, "config.json", "adapter_config.json"))


def _read_meta(path: str | Path, folder: Path) -> dict[str, Any] | None:
    file = _file_of(path, folder, META_FILE)
    if not file.exists():
        return None
    try:
        meta = json.loads(file.read_text())
        version = int(meta["schema_version"])
        if version <= SCHEMA_VERSION:
            Rubric.from_dict(meta["rubric"])
            PromptForms.from_dict(meta["forms"])
            ResolutionPolicy(**meta["resolution"])
            int(meta["max_trace_tokens"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is not a valid zreward.json ({error}); the checkpoint is damaged, write it again"
        ) from None
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema version {version}; this zreward reads up to {SCHEMA_VERSION}. Install a newer zreward"
        )
    return meta


def _on_hub(path: str | Path, folder: Path) -> bool:
    """Whether a name reads like ORGANISATION/NAME of the model hub, and not like a folder that is not there."""
    text = str(path)
    named = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    return named and not folder.exists() and not folder.parent.exists()


def _file_of(path: str | Path, folder: Path, name: str) -> Path:
    """A file of the checkpoint: in its folder, or from the hub. It need not exist."""
    if not _on_hub(path, folder):
        return folder / name
    from transformers.utils import cached_file

    try:
        found = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False)
    except OSError:  # no such repository, or no way to ask: loading says so
        found = None
    return Path(found or folder / name)


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    known = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in known:
        raise InputError(f"dtype {dtype!r} is unknown; expected one of {sorted(known)}")
    return known[dtype]


def _load_parts(path, folder: Path, device, dtype, quantization, trainable_adapter):
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    if not folder.exists() and not _on_hub(path, folder):
        raise InputError(f"{path}: no such checkpoint folder")
    if folder.exists() and not _is_checkpoint(folder):
        raise InputError(f"{path} holds neither config.json nor adapter_config.json: not a checkpoint folder")
    adapter = folder / "adapter_config.json"
    source = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.exists() else str(path)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if quantization:
        options["quantization_config"] = _quantization(quantization, device)
        options["device_map"] = {"": device}
    model: Any
    found: dict[str, Any]
    try:
        AutoConfig.from_pretrained(source)
        parts: Any = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **options)
        model, found = parts
        tokenizer = AutoTokenizer.from_pretrained(str(path) if folder.exists() else source)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{source}: cannot be loaded as an image-text-to-text model: {reason}") from error
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{source}: {len(missing)} weights are missing, {missing[0]} among them; they would be random numbers. "
            "The checkpoint is damaged, or of another architecture"
        )
    if adapter.exists():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder, is_trainable=trainable_adapter)
    return (model if quantization else model.to(device)), tokenizer


def _quantization(name: str, device: torch.device):
    from transformers import BitsAndBytesConfig

    if name not in ("4bit", "8bit"):
        raise InputError(f"quantization {name!r} is unknown; expected '4bit' or '8bit'")
    if device.type != "cuda":
        raise InputError(f"quantization {name!r} needs a CUDA device, the device is {device}; leave it out")
    return BitsAndBytesConfig(load_in_4bit=name == "4bit", load_in_8bit=name == "8bit")


def _recorded_layout(path, folder: Path, model) -> ImageLayout:
    """Mean and standard deviation come from the checkpoint's preprocessor_config.json, everything else from the model."""
    layout: Any = layout_of(model.get_base_model() if hasattr(model, "peft_config") else model)
    stored: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = _file_of(path, folder, name)
        if file.exists() and not stored:
            try:
                stored = json.loads(file.read_text())
            except ValueError as error:
                raise InputError(f"{file} is not JSON ({error}); the checkpoint is damaged") from None
            stored = stored.get("image_processor") or stored
    mean, std = stored.get("image_mean", layout.mean), stored.get("image_std", layout.std)
    return replace(layout, mean=tuple(mean), std=tuple(std))


def _save_preprocessor(reward_model: RewardModel, folder: Path) -> None:
    """An image-processor file, so that plain transformers and vLLM prepare images for this checkpoint."""
    config = reward_model.layout.preprocessor(reward_model.resolution)
    (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=2))
