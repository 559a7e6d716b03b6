"""Checkpoints: an ordinary Hugging Face folder (or PEFT adapter) plus `zreward.json`; safetensors only, no remote code."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from zreward.common.errors import InputError, check_counts, shorten, shown
from zreward.common.files import atomic_folder, disk_errors, write_json
from zreward.common.version import __version__
from zreward.models.adapters import WEIGHTS, Base, find_base, read_adapter, read_record
from zreward.models.attention_names import check_attention
from zreward.models.calibration import Calibration, calibrations_dict, read_calibrations
from zreward.models.checkpoint_files import ADAPTER_CONFIG, CONFIG, META_FILE, check_folder, find_folder, read_part
from zreward.models.devices import find_device, find_dtype, warn_of_slow_formats
from zreward.models.image_template import show_images
from zreward.models.names import find_model
from zreward.models.network import add_adapter, has_tokenizer, load_network, load_tokenizer, told_of
from zreward.models.pixels import ResolutionPolicy
from zreward.models.preprocessor import recorded_layout, save_preprocessor
from zreward.models.rows import Row
from zreward.models.shards import put_weights
from zreward.models.tower import KEY as POOL
from zreward.models.tower import pool_images, recorded_pool
from zreward.models.training_data import note_seen, stored_in
from zreward.models.weight_files import check_weight_file, weight_files
from zreward.prompting import LATER, PromptForms
from zreward.rubric import Rubric

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

SCHEMA_VERSION = 4  # 1 knew no image_pool, 2 no calibration, 3 no forms for several pictures and answers
MOST_TRACE_TOKENS = 100_000


def load(
    make: type[RewardModel],
    path: str | Path,
    rubric: Rubric | None,
    forms: PromptForms | None,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    quantization: str | None,
    resolution: ResolutionPolicy | None,
    max_trace_tokens: int | None,
    trainable_adapter: bool,
    attn_implementation: str | None,
    empty: bool = False,
) -> RewardModel:
    """`RewardModel.from_pretrained`, where the arguments are described; `make` is its class."""
    check_counts(max_trace_tokens=max_trace_tokens)
    check_attention(attn_implementation)
    name, device = str(path), find_device(device)
    folder = find_folder(find_model(path))
    check_folder(folder)
    if not _is_checkpoint(folder):
        raise InputError(f"{path} holds neither config.json nor adapter_config.json: not a checkpoint folder")
    meta = read_meta(folder)
    if meta and rubric and rubric.fingerprint() != meta.rubric.fingerprint():
        mine = meta.rubric
        raise InputError(
            f"{path}: the checkpoint was trained with rubric {mine.name!r} version {mine.version} "
            f"({mine.fingerprint()}), but {rubric.name!r} version {rubric.version} ({rubric.fingerprint()}) was asked for; "
            "use the checkpoint's own rubric, or train a model with the new one"
        )
    if meta and forms is not None and forms != meta.forms:
        raise InputError(
            f"{path}: the checkpoint has prompt forms of its own, which it was trained with; leave forms out"
        )
    adapter = read_adapter(folder) if os.path.lexists(folder / ADAPTER_CONFIG) else None
    base = find_base(folder, adapter, meta.base if meta else None) if adapter is not None else Base(name, folder)
    number_format = find_dtype(dtype or (meta.dtype if meta else None), device)
    warn_of_slow_formats([number_format], device)
    quantization = quantization or (meta.quantization if meta else None)
    tokenizer = load_tokenizer(folder if has_tokenizer(folder) else base.folder)
    model = load_network(base.folder, device, number_format, quantization, attn_implementation, empty)
    show_images(tokenizer, getattr(model.config, "image_token_id", -1))
    if meta and meta.image_pool is not None:
        pool_images(model, meta.image_pool)  # an adapter's; whole models say so in their configuration too
    if adapter is not None:
        model = add_adapter(model, folder, trainable_adapter).to(device)
    with told_of(folder, "a reward model"):
        reward_model = make(
            model,
            tokenizer,
            meta.rubric if meta else rubric or Rubric.default(),
            meta.forms if meta else forms,
            resolution or (meta.resolution if meta else None),
            recorded_layout([folder, base.folder], model),
            max_trace_tokens or (meta.max_trace_tokens if meta else 512),
        )
    reward_model.base, reward_model.empty, reward_model.seen = base, empty, stored_in(folder)
    reward_model.calibrations = dict(meta.calibrations) if meta else {}
    reward_model.eval()
    if not empty:
        _try_out(reward_model, folder)
    if not meta and rubric is None:
        warnings.warn(
            f"{path} brings no {META_FILE} and no rubric was given: it is asked with the default rubric", stacklevel=3
        )
    return reward_model


def _try_out(model: RewardModel, folder: Path) -> None:
    """One pass over a small picture: settings that load, but with which nothing runs, are refused before the work begins."""
    images = model.forms.images
    row = Row(tuple(range(images)), "x", model.rubric.dimension_names[0])
    with told_of(folder, "a model that can score"), torch.no_grad():
        pictures = [model.open(Image.new("RGB", (32, 32)))] * images
        model.backbone(model.collate(pictures, [row]).to(model.device))


def save(reward_model: RewardModel, path: str | Path, state_dict: dict[str, torch.Tensor] | None = None) -> None:
    """Write the checkpoint under a temporary name beside `path`, then replace the old one as a whole.

    `state_dict` (the Hugging Face model's names) replaces the module's own, where an engine gathered shards.
    """
    path = Path(path)
    with disk_errors(path):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; a checkpoint is a folder, choose another name")
        if path.is_dir() and any(path.iterdir()) and not _is_checkpoint(path):
            raise InputError(f"{path} is a folder that holds no checkpoint; choose another name, or empty it")
    _note_base(reward_model)
    with atomic_folder(path) as folder:
        reward_model.backbone.model.save_pretrained(folder, state_dict=state_dict)
        reward_model.tokenizer.save_pretrained(folder)
        save_preprocessor(reward_model, folder)
        notes = _record_base(reward_model, path) | note_seen(reward_model, folder)
        (folder / META_FILE).write_text(json.dumps(metadata(reward_model) | notes, indent=2))


def load_weights(reward_model: RewardModel, folder: Path) -> None:
    """Put a checkpoint's weights (all of them, or the adapter's) into a model of the same shape, for resuming."""
    model = reward_model.backbone.model
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        _check_base(reward_model, folder)
        own, files = get_peft_model_state_dict(model), [folder / WEIGHTS]
    else:
        own, files = model.state_dict(), weight_files(folder)
    stored = _read_weights(files)
    # Tied weights are stored once: they are "missing" under their second name.
    missing = set(own) - set(stored) - set(getattr(model, "all_tied_weights_keys", None) or {})
    unexpected = sorted(set(stored) - set(own))
    if missing or unexpected:
        raise InputError(
            f"{folder}: weights do not fit the model: missing {sorted(missing)[:3]}, unexpected {unexpected[:3]}"
        )
    put_weights(stored, {name: own[name] for name in stored})


def _read_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """By name; read from disk as they are used."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in files:
        check_weight_file(file)
        weights |= load_file(file)
    return weights


def _check_base(reward_model: RewardModel, folder: Path) -> None:
    """InputError where an adapter was trained on another base than the model that it is put on."""
    record = read_record(read_part(folder, META_FILE), folder / META_FILE)
    base = reward_model.base
    if record and base and record["weights"] != base.fingerprint():
        raise InputError(
            f"{folder}: its adapter was trained on {record['name']} ({record['weights']}), but {base.name} has other weights "
            f"now ({base.fingerprint()}); put the base back, or start again"
        )


def _note_base(reward_model: RewardModel) -> None:
    """PEFT's own note of an adapter's base: a place that plain PEFT finds too."""
    model, base = reward_model.backbone.model, reward_model.base
    if base is not None and hasattr(model, "peft_config"):
        for config in model.peft_config.values():
            config.base_model_name_or_path = str(base.folder.resolve())


def _record_base(reward_model: RewardModel, path: Path) -> dict[str, Any]:
    """The base of an adapter that is saved to `path`; nothing for a whole model."""
    if reward_model.base is None or not hasattr(reward_model.backbone.model, "peft_config"):
        return {}
    return {"base": reward_model.base.record(path)}


def metadata(reward_model: RewardModel) -> dict[str, Any]:
    """What `zreward.json` holds."""
    pooled = getattr(reward_model.backbone.base.config, POOL, 1)
    calibrations, forms = calibrations_dict(reward_model.calibrations), reward_model.forms.digested()
    dtype = reward_model.computed_in or next(p for p in reward_model.parameters() if p.is_floating_point()).dtype
    return (
        {
            "schema_version": _schema_version(forms, pooled != 1, bool(calibrations)),
            "zreward_version": __version__,
            "rubric": reward_model.rubric.to_dict(),
            "forms": forms,
            "resolution": asdict(reward_model.resolution),
            "max_trace_tokens": reward_model.max_trace_tokens,
            "dtype": str(dtype).removeprefix("torch."),
            "quantization": getattr(reward_model, "quantization", None),
        }
        | ({} if pooled == 1 else {POOL: pooled})
        | ({"calibration": calibrations} if calibrations else {})
    )


def _schema_version(forms: Mapping[str, str], pooled: bool, calibrated: bool) -> int:
    """The oldest that reads it rightly."""
    return 4 if set(forms) & set(LATER) else 3 if calibrated else 2 if pooled else 1


@dataclass(frozen=True)
class Meta:
    """What `zreward.json` says, checked."""

    rubric: Rubric
    forms: PromptForms
    resolution: ResolutionPolicy
    max_trace_tokens: int
    dtype: str | None
    quantization: str | None
    base: dict[str, str] | None
    image_pool: int | None
    calibrations: dict[str, Calibration]


def read_meta(folder: Path) -> Meta | None:
    """None for a model without `zreward.json`."""
    file = folder / META_FILE
    stored = read_part(folder, META_FILE)
    if not stored and not os.path.lexists(file):
        return None
    try:
        version = int(stored["schema_version"])
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{file} has schema version {shown(version)}; this zreward reads up to {SCHEMA_VERSION}. Install a newer zreward"
            )
        dtype, quantization = stored.get("dtype"), stored.get("quantization")
        if not all(value is None or isinstance(value, str) for value in (dtype, quantization)):
            raise TypeError(f"dtype is {shown(dtype)}, quantization {shown(quantization)}; expected names")
        tokens = stored["max_trace_tokens"]
        if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= MOST_TRACE_TOKENS:
            raise TypeError(f"max_trace_tokens is {shown(tokens)}; expected a number from 1 to {MOST_TRACE_TOKENS:,}")
        return Meta(
            Rubric.from_dict(stored["rubric"]),
            PromptForms.from_dict(stored["forms"]),
            ResolutionPolicy(**stored["resolution"]),
            tokens,
            dtype,
            quantization,
            read_record(stored, file),
            recorded_pool(stored[POOL]) if POOL in stored else None,
            read_calibrations(stored.get("calibration", {})),
        )
    except InputError as error:
        if str(file) in str(error):
            raise
        raise InputError(
            f"{file} is not a valid zreward.json ({error}); the checkpoint is damaged, write it again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else shorten(error, 200)
        raise InputError(
            f"{file} is not a valid zreward.json ({reason}); the checkpoint is damaged, write it again"
        ) from None


def record_calibrations(folder: Path, form: str, calibration: Calibration | None) -> None:
    """Write the calibration of a form of answer into a checkpoint's `zreward.json`, or take it out; nothing else changes.

    Args:
        folder: a checkpoint with a `zreward.json`.
        form: one of `zreward.models.calibration.FORMS`.
        calibration: None takes it out.

    Raises:
        InputError: no checkpoint, or one without `zreward.json`; nothing to take out.
    """
    check_folder(folder)
    meta = read_meta(folder)
    if meta is None:
        raise InputError(
            f"{folder} has no {META_FILE}: it is no reward model's folder, so there is nowhere to store a calibration"
        )
    if calibration is None and form not in meta.calibrations:
        raise InputError(f"{folder} has no calibration of {form} scores to remove")
    kept = {name: one for name, one in meta.calibrations.items() if name != form}
    found = calibrations_dict(kept | ({} if calibration is None else {form: calibration}))
    stored = {key: value for key, value in read_part(folder, META_FILE).items() if key != "calibration"}
    version = _schema_version(stored["forms"], POOL in stored, bool(found))
    write_json(folder / META_FILE, stored | {"schema_version": version} | ({"calibration": found} if found else {}))


def _is_checkpoint(path: Path) -> bool:
    return any(os.path.lexists(path / name) for name in (META_FILE, CONFIG, ADAPTER_CONFIG))
