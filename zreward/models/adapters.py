"""LoRA adapters: which base they belong to, so that it is found after a project moved, and never another one of its name.

An adapter's `zreward.json` records its base: the name as it was given, where that led to, and the fingerprint of its weights.
Adapters that were saved before have PEFT's own note of the base only, and nothing to check it by.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shorten, shown
from zreward.models.checkpoint_files import ADAPTER_CONFIG, check_folder, check_pickles, find_folder, read_part
from zreward.models.names import find_model
from zreward.models.weight_files import files_fingerprint

WEIGHTS = "adapter_model.safetensors"
_MOST_RANK = 8192


@dataclass
class Base:
    """Where an adapter's base came from. `weights` is its fingerprint, computed when it is first asked for."""

    name: str  # as it was given: me/judge, runs/sft/model
    folder: Path
    weights: str | None = None

    def fingerprint(self) -> str:
        if self.weights is None:
            self.weights = files_fingerprint(self.folder)
        return self.weights

    def record(self, adapter: Path) -> dict[str, str]:
        """What zreward.json says of the base, for an adapter in that folder."""
        place = self.folder.resolve()
        return {
            "name": self.name,
            "path": Path(os.path.relpath(place, adapter.resolve())).as_posix(),
            "absolute": str(place),
            "weights": self.fingerprint(),
        }


def read_adapter(folder: Path) -> dict[str, Any]:
    """A checked adapter_config.json. InputError for what is no LoRA adapter, or cannot be applied at a bounded cost."""
    check_pickles(folder, WEIGHTS)
    file = folder / ADAPTER_CONFIG
    config = read_part(folder, ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise InputError(f"{file}: peft_type is {shown(config.get('peft_type'))}; expected LORA")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= _MOST_RANK:
        raise InputError(f"{file}: r is {shown(rank)}, expected a rank from 1 to {_MOST_RANK:,}")
    alpha = config.get("lora_alpha", 8)
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or abs(alpha) > 1e9:
        raise InputError(f"{file}: lora_alpha is {shown(alpha)}, expected a finite number")
    if config.get("megatron_config") is not None:
        raise InputError(f"{file} names a module to import (megatron_config); remove it")
    for pattern in _patterns(config):
        _check_pattern(pattern, file)
    if not os.path.lexists(folder / WEIGHTS):
        raise InputError(f"{folder} has no {WEIGHTS}: the adapter is incomplete, fetch or save it again")
    return config


def find_base(adapter: Path, config: dict[str, Any], recorded: dict[str, Any] | None) -> Base:
    """The base of an adapter, checked. InputError names what was recorded and what was found where no candidate is it."""
    noted = config.get("base_model_name_or_path")
    if recorded is None and (not isinstance(noted, str) or not noted):
        raise InputError(
            f"{adapter / ADAPTER_CONFIG}: base_model_name_or_path is {shown(noted)}; expected the folder or hub name of the "
            "model that the adapter was trained on"
        )
    others = []
    for name in _candidates(adapter, noted, recorded):
        try:
            folder = find_folder(find_model(name))
        except InputError:
            continue
        check_folder(folder)
        base = Base(recorded["name"] if recorded else name, folder)
        if recorded is None or base.fingerprint() == recorded["weights"]:
            return base
        others.append(f"{name} ({base.fingerprint()})")
    wanted = f"{recorded['name']} ({recorded['weights']})" if recorded else str(noted)
    if others:
        raise InputError(
            f"{adapter}: was trained on {shorten(wanted)}, and what is found under that name has other weights: "
            f"{shorten(', '.join(others), 300)}; put the base back, or train the adapter again"
        )
    raise InputError(
        f"{adapter}: its base {shorten(wanted, 200)} is missing; put it there again, or name another place in "
        f"{adapter / ADAPTER_CONFIG} (base_model_name_or_path)"
    )


def read_record(meta: dict[str, Any] | None, file: Path) -> dict[str, str] | None:
    """The base that zreward.json records; None in those written before."""
    record = (meta or {}).get("base")
    if record is None:
        return None
    keys = ("name", "path", "absolute", "weights")
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in keys):
        raise InputError(f"{file}: base is {shown(record)}, expected texts {', '.join(keys)}")
    return record


def _candidates(adapter: Path, noted: Any, recorded: dict[str, Any] | None) -> Iterator[str]:
    if recorded is not None:
        if isinstance(noted, str) and noted and noted != recorded["absolute"]:
            yield noted  # somebody wrote another place into PEFT's file, as when both were put on the hub
        yield str(adapter / recorded["path"])
        yield recorded["absolute"]
        yield recorded["name"]
        return
    if not os.path.isabs(noted):
        # A relative path of an older adapter was relative to where training ran: most likely a folder above the adapter.
        yield from (str(parent / noted) for parent in adapter.resolve().parents if (parent / noted).is_dir())
    yield noted


def _patterns(config: dict[str, Any]) -> Iterator[str]:
    """What PEFT reads as regular expressions."""
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        if isinstance(config.get(key), str):
            yield config[key]
    for key in ("rank_pattern", "alpha_pattern"):
        if isinstance(config.get(key), dict):
            yield from config[key]


def _check_pattern(pattern: str, file: Path) -> None:
    """InputError for an expression whose matching may take for ever: repeated groups, or many repetitions."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{file}: {shown(pattern)} is no regular expression: {error}") from None
    if len(pattern) > 1000 or re.search(r"\)[*+{]", pattern) or len(re.findall(r"(?<!\\)[*+{]", pattern)) > 4:
        raise InputError(f"{file}: the expression {shown(pattern)} is too complicated; list the modules by name")
