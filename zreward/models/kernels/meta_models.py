"""Models without weights, for their layers alone: of a checkpoint's configuration, or of the families that zreward supports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zreward.common.errors import InputError
from zreward.models.adapters import find_base, read_adapter, read_record
from zreward.models.checkpoint_files import ADAPTER_CONFIG, CONFIG, META_FILE, check_folder, find_folder, read_part
from zreward.models.names import find_model
from zreward.models.network import told_of

_FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("qwen3_5", {"num_hidden_layers": 4}),
    ("qwen3_5", {"num_hidden_layers": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64, "head_dim": 128}),
    ("qwen3_vl", {"num_hidden_layers": 2}),
    ("llava", {"num_hidden_layers": 2, "model_type": "llama"}),
)
"""Their usual head sizes, in a few layers: model type, and what is changed in the language model's configuration."""


def families() -> list[nn.Module]:
    from transformers import AutoConfig

    return [empty_model(AutoConfig.for_model(kind, text_config=changes)) for kind, changes in _FAMILIES]


def configured(name: str) -> nn.Module:
    """The layers of a model by its name (folder, hub, registered), an adapter's base included. InputError where there is none."""
    folder, config = find_config(name)
    with told_of(folder, "an image-text-to-text model"):
        return empty_model(config)


def find_config(name: str) -> tuple[Path, Any]:
    """The folder and the configuration of a model by its name; of an adapter, its base's."""
    from transformers import AutoConfig

    place = find_model(name)
    folder = find_folder(place, [CONFIG, ADAPTER_CONFIG, META_FILE])
    if os.path.lexists(folder / ADAPTER_CONFIG):
        folder = find_folder(place)  # an adapter is small, and its weights say which base is the right one
        check_folder(folder)
        record = read_record(read_part(folder, META_FILE), folder / META_FILE)
        folder = find_base(folder, read_adapter(folder), record).folder
    check_folder(folder)
    if not os.path.lexists(folder / CONFIG):
        raise InputError(f"{folder} has no {CONFIG}: not a model, or incomplete; fetch or save it again")
    with told_of(folder, "an image-text-to-text model"):
        return folder, AutoConfig.from_pretrained(folder, trust_remote_code=False)


def empty_model(config: Any, **options: Any) -> Any:
    """The model of a configuration, on the meta device; `options` are those of `from_config`."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=False, **options)
