"""The recipe's network without weights: its configuration, on the meta device, frozen and adapted as training does it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from zreward.common.bounded import MEGABYTE, read_json
from zreward.common.errors import InputError
from zreward.models.backbone import Backbone
from zreward.models.checkpoint_files import ADAPTER_CONFIG, CONFIG, META_FILE, check_config, find_folder, read_part
from zreward.models.compose import NAME as COMPOSE
from zreward.models.compose import configuration
from zreward.models.devices import DTYPES
from zreward.models.kernels.meta_models import empty_model, find_config
from zreward.models.names import find_model
from zreward.models.network import told_of
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import PREFIX, SCRATCH_FORMS, build_model
from zreward.training.recipe import Recipe
from zreward.training.run import prepare

SHIPPED = {"Qwen/Qwen3.5-27B": "qwen3.5-27b.json", "Qwen/Qwen3.5-9B": "qwen3.5-9b.json"}
"""Hub name -> the file of its sizes in this package, so that the shipped recipes are planned without the hub."""
SCRATCH_WORDS = 4_096  # entries of the vocabulary that a model from scratch learns: at most about this many
_FOLDER = Path(__file__).parent / "configurations"


@dataclass(frozen=True)
class Network:
    """A model on the meta device. `recorded` is its checkpoint's zreward.json; empty where there is none."""

    backbone: Backbone
    own_parameters: int  # without an adapter
    dtype: torch.dtype  # of weights that are not trained
    recorded: dict[str, Any]

    @property
    def config(self) -> Any:
        return self.backbone.base.config

    @property
    def text(self) -> Any:
        return self.config.get_text_config()


def network_of(recipe: Recipe, file: Path | None = None) -> Network:
    """The model that a recipe trains; `file` gives its configuration by hand.

    Raises InputError for a configuration that cannot be found or read, and for what cannot be planned.
    """
    network = _load(recipe.model.name, recipe, file, "--config")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT speaks of weights, of which there are none
        with torch.device("meta"):
            prepare(cast(RewardModel, SimpleNamespace(backbone=network.backbone, empty=False)), recipe)
    return network


def teacher_of(recipe: Recipe, file: Path | None = None) -> Network | None:
    """OPD's teacher, all of it frozen; None for other methods."""
    if recipe.rollout.teacher is None:
        return None
    network = _load(recipe.rollout.teacher, recipe, file, "--teacher-config")
    network.backbone.requires_grad_(False)
    return network


def _load(name: str, recipe: Recipe, file: Path | None, option: str) -> Network:
    adapter: Path | None = None
    recorded: dict[str, Any] = {}
    if file is not None:
        config = _read_config(file)
    elif name in SHIPPED:
        config = _read_config(_FOLDER / SHIPPED[name])
    elif name.startswith(PREFIX):
        return _wrap(_from_scratch(recipe), recipe, {"forms": SCRATCH_FORMS.to_dict(), "dtype": "float32"})
    elif name == COMPOSE:
        config = configuration(recipe.model.compose, recipe.model.image_pool or 1)
        recorded = {"dtype": recipe.model.dtype or "float32"}
    else:
        config, recorded, adapter = _of_checkpoint(name, option)
    if getattr(config.get_text_config(), "num_experts", None) or getattr(
        config.get_text_config(), "num_local_experts", None
    ):
        raise InputError(f"{name}: a mixture of experts, whose work per token is not planned; expected a dense model")
    dtype = _dtype(recipe, recorded)
    with told_of(file or Path(name), "an image-text-to-text model"):
        model = empty_model(config, dtype=dtype)
    return _wrap(model, recipe, recorded, adapter)


def _wrap(model: Any, recipe: Recipe, recorded: dict[str, Any], adapter: Path | None = None) -> Network:
    own = sum(weight.numel() for weight in model.parameters())
    if adapter is not None:
        from peft import PeftConfig, get_peft_model

        with told_of(adapter, "an adapter of its base"), torch.device("meta"):
            model = get_peft_model(model, PeftConfig.from_pretrained(str(adapter)))
    nothing = torch.empty(0, dtype=torch.long)
    return Network(Backbone(model, nothing, nothing, 0), own, _dtype(recipe, recorded), recorded)


def _dtype(recipe: Recipe, recorded: dict[str, Any]) -> torch.dtype:
    name = recipe.model.dtype or recorded.get("dtype") or "bfloat16"  # the default of GPUs
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is unknown; expected one of {sorted(DTYPES)}")
    return DTYPES[name]


def _read_config(file: Path) -> Any:
    from transformers import AutoConfig

    check_config(file)
    content = read_json(file, 16 * MEGABYTE)
    kind = content.pop("model_type", None)
    if not isinstance(kind, str):
        raise InputError(f"{file} has no model_type; expected a model's {CONFIG}")
    with told_of(file, "a model's configuration"):
        return AutoConfig.for_model(kind, **content)


def _of_checkpoint(name: str, option: str) -> tuple[Any, dict[str, Any], Path | None]:
    """Configuration, zreward.json and, where the checkpoint is an adapter, its folder."""
    try:
        _, config = find_config(name)
        folder = find_folder(find_model(name), [CONFIG, ADAPTER_CONFIG, META_FILE])
    except InputError as error:
        raise InputError(
            f"{error}. A plan needs the configuration only: give it with {option} FILE.json (the model's {CONFIG})"
        ) from None
    return config, read_part(folder, META_FILE), folder if os.path.lexists(folder / ADAPTER_CONFIG) else None


class _Vocabulary:
    """Stands for a tokenizer where only its size matters."""

    def __len__(self) -> int:
        return SCRATCH_WORDS

    def convert_tokens_to_ids(self, token: str) -> int:
        return 0


def _from_scratch(recipe: Recipe) -> Any:
    with torch.device("meta"):
        return build_model(recipe.model.name.removeprefix(PREFIX), recipe.model.scratch, _Vocabulary())
