"""A LLaVA-type model of pretrained parts: an image tower, a causal language model, and an untrained projector between them.

The result is an ordinary folder of transformers' LlavaForConditionalGeneration: whatever takes a checkpoint takes it. Its answers
mean nothing before the projector was trained (docs/guides/training.md). Weights are read from safetensors only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.models.checkpoint_files import CONFIG, check_folder, check_pickles, find_folder
from zreward.models.image_template import give_image_token
from zreward.models.names import find_model
from zreward.models.network import load_tokenizer, told_of
from zreward.models.preprocessor import recorded_layout
from zreward.models.reward_model import RewardModel
from zreward.models.tower import KEY as POOL
from zreward.models.tower import fit_projector, pool_images, tower_features
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

NAME = "compose"
"""`model.name` of a recipe that composes its model."""
_TOWERS = {"clip_vision_model": True, "siglip_vision_model": False, "dinov2": True, "dinov2_with_registers": True}
"""Model type of an image tower -> whether its first token stands for the whole image."""
SHORT_FORMS = PromptForms(
    system="", rubric="", prompt="{prompt}\n", direct="{title}?", reasoning="{title}, step by step?"
)
"""Without the rubric's text."""
_ROWS = 64  # embeddings are padded to a multiple of this, where they have to grow


@dataclass(frozen=True)
class ComposeSpec:
    """The parts. A folder or hub name may hold more than the part: of a CLIP or LLaVA model, its tower is taken."""

    vision: str | None = None  # image tower: CLIP, SigLIP or DINOv2; a folder or hub name
    language: str | None = None  # causal language model with a chat template; a folder or hub name
    layers: list[int] = field(default_factory=lambda: [-2])  # of the tower: an image token joins these layers' states
    class_token: bool = False  # keep the tower's token for the whole image (SigLIP has none)
    vision_layers: int | None = None  # keep only so many layers of the tower, the lowest; default: all
    language_layers: int | None = None  # the same of the language model
    rubric_text: bool = True  # false: ask by a dimension's title alone, for small models and short sequences


def compose(
    spec: ComposeSpec,
    folder: str | Path,
    rubric: Rubric | None = None,
    image_pool: int = 1,
    dtype: Any = torch.float32,
    pictures: Sequence[Any] = (),
) -> Path:
    """Write the composed model as a checkpoint folder. The projector's weights come from torch's global random state.

    Args:
        spec: the parts.
        folder: a new folder, or one that holds a checkpoint.
        rubric: what the model is to judge by; default: the default rubric.
        image_pool: tokens of the tower a side that become one.
        dtype: number format of the weights.
        pictures: of any kind that `RewardModel.score` takes. The projector is scaled by what the tower makes of them
            (`fit_projector`), and so learns faster; default: transformers' own random weights.

    Returns:
        `folder`.

    Raises:
        InputError: a part that is missing, of another kind, damaged or a pickle; options that do not fit it.
    """
    names = _names(spec)
    vision, tower = _tower(spec)
    text, language = _language(names[1], spec.language_layers)
    tokenizer = load_tokenizer(text)
    with told_of(text, "the language model of a reward model"):
        image_id = give_image_token(tokenizer)
        if image_id >= language.get_input_embeddings().num_embeddings:
            language.resize_token_embeddings(image_id + 1, pad_to_multiple_of=_ROWS, mean_resizing=False)
        network = _join(tower, language, image_id, spec, image_pool).to(dtype)
        pool_images(network, image_pool)
        forms = PromptForms() if spec.rubric_text else SHORT_FORMS
        layout = recorded_layout([vision], network)
        model = RewardModel(network, tokenizer, rubric or Rubric.default(), forms, layout=layout)
    if pictures:
        _fit(model, pictures)
    model.save_pretrained(folder)
    return Path(folder)


@torch.no_grad()
def _fit(model: RewardModel, pictures: Sequence[Any]) -> None:
    base, parts = model.backbone.base, []
    for picture in pictures:
        pixels, _ = model.layout.patchify(model.open(picture))
        parts.append(tower_features(base, pixels.to(base.dtype)).flatten(0, 1).float())
    fit_projector(base, torch.cat(parts))


def _tower(spec: ComposeSpec) -> tuple[Path, Any]:
    """The folder of an image tower, and the tower."""
    folder, whole = _load(_names(spec)[0], "AutoModel", "model.compose.vision")
    tower = next((part for key in ("vision_model", "vision_tower") if (part := getattr(whole, key, None))), whole)
    _strategy(spec, tower.config)  # InputError for a tower of another kind
    if spec.vision_layers is not None:
        stack = "layer" if hasattr(tower.encoder, "layer") else "layers"
        _cut(tower.encoder, stack, tower.config, spec.vision_layers, "vision")
    return folder, tower


def _language(name: str, layers: int | None) -> tuple[Path, Any]:
    """The folder of a language model, and the model, or the LLaVA-type model that it is the language part of."""
    folder = find_folder(find_model(name))
    whole = "vision_config" in (read_json(folder / CONFIG) if os.path.lexists(folder / CONFIG) else {})
    folder, model = _load(
        name, "AutoModelForImageTextToText" if whole else "AutoModelForCausalLM", "model.compose.language"
    )
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        raise InputError(
            f"model.compose.language: the output layer of {name} is {shown(head)}; expected a causal language model with a "
            "linear one without bias, as LLaVA has"
        )
    if layers is not None:
        text = _text_part(model)
        _cut(text, "layers", text.config, layers, "language")
    return folder, model


def _text_part(language: Any) -> Any:
    return language.model.language_model if hasattr(language.model, "language_model") else language.base_model


def _cut(part: Any, stack: str, config: Any, layers: int, which: str) -> None:
    """Keep the lowest layers of a part, which are its attribute `stack`."""
    can_be_cut = isinstance(getattr(part, stack, None), nn.ModuleList)
    _check_depth(layers, config.num_hidden_layers if can_be_cut else 0, which)
    setattr(part, stack, getattr(part, stack)[:layers])
    _shorten(config, layers)


def _shorten(config: Any, layers: int) -> None:
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    if getattr(config, "stage_names", None):  # DINOv2 has a name for every layer, and for its patches
        config.stage_names = config.stage_names[: layers + 1]
        config.out_features = config.stage_names[-1:]


def _check_depth(layers: int, depth: int, which: str) -> None:
    if not depth:
        raise InputError(f"model.compose.{which}_layers: this {which} model cannot be cut; leave the key out")
    if not 1 <= layers <= depth:
        raise InputError(
            f"model.compose.{which}_layers is {layers}, expected 1 to {depth}, the layers of the {which} model"
        )


def _load(name: str, kind: str, option: str) -> tuple[Path, Any]:
    import transformers

    folder = find_folder(find_model(name))
    check_folder(folder)
    if not os.path.lexists(folder / CONFIG):
        raise InputError(f"{option}: {folder} has no {CONFIG}; expected a model's folder or hub name")
    check_pickles(folder, "model.safetensors")
    options = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    with told_of(folder, f"the {option.rpartition('.')[2]} part of a composed model"):
        loader = getattr(transformers, kind)
        model, found = loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{option}: {folder}: {len(missing)} weights are missing, {missing[0]} among them; they would be random numbers"
        )
    return folder, model


def configuration(spec: ComposeSpec, image_pool: int = 1) -> Any:
    """The composed model's configuration, from those of its parts alone: for plans. InputError as `compose`."""
    from transformers import AutoConfig

    found = []
    for name in _names(spec):
        folder = find_folder(find_model(name), [CONFIG])
        check_folder(folder)
        with told_of(folder, "a part of a composed model"):
            found.append(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
    vision, text = found
    with told_of(Path(f"{spec.vision}, {spec.language}"), "parts of a composed model"):
        tower, language = getattr(vision, "vision_config", vision), text.get_text_config()
        for which, part, layers in (
            ("vision", tower, spec.vision_layers),
            ("language", language, spec.language_layers),
        ):
            if layers is not None:
                _check_depth(layers, part.num_hidden_layers, which)
                _shorten(part, layers)
        made = _configuration(tower, language, 0, spec, image_pool)
    setattr(made, POOL, image_pool)
    return made


def _names(spec: ComposeSpec) -> tuple[str, str]:
    if not spec.vision or not spec.language:
        raise InputError(
            f"model.compose: vision is {shown(spec.vision)}, language {shown(spec.language)}; expected a folder or hub name "
            "of an image tower, and one of a causal language model"
        )
    return spec.vision, spec.language


def _configuration(tower: Any, text: Any, image_id: int, spec: ComposeSpec, image_pool: int) -> Any:
    from transformers import LlavaConfig

    strategy, registers = _strategy(spec, tower), getattr(tower, "num_register_tokens", 0)
    patches = math.ceil(tower.image_size // tower.patch_size / image_pool) ** 2
    return LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=image_id,
        vision_feature_layer=_layers(spec, tower),
        vision_feature_select_strategy=strategy,
        image_seq_length=patches + registers + spec.class_token,
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )


def _join(tower: Any, language: Any, image_id: int, spec: ComposeSpec, image_pool: int) -> Any:
    """transformers' LLaVA with these parts in it."""
    from transformers import AutoModel, LlavaForConditionalGeneration

    text = _text_part(language)
    config = _configuration(tower.config, text.config, image_id, spec, image_pool)
    with torch.device("meta"):
        network: Any = LlavaForConditionalGeneration(config)
    eyes: Any = AutoModel.from_config(config.vision_config)
    eyes.load_state_dict(_renamed(tower.state_dict(), eyes))
    network.model.vision_tower, network.model.language_model = eyes, text
    network.lm_head = language.get_output_embeddings()
    network.model.multi_modal_projector = type(network.model.multi_modal_projector)(config)
    network.config.text_config.vocab_size = language.get_input_embeddings().num_embeddings
    network.tie_weights()
    return network


def _layers(spec: ComposeSpec, tower: Any) -> int | list[int]:
    depth = tower.num_hidden_layers
    wrong = [layer for layer in spec.layers if not -depth - 1 <= layer <= depth]
    if wrong or not spec.layers:
        raise InputError(
            f"model.compose.layers is {shown(spec.layers)}; expected numbers from {-depth - 1} (the patches) to {depth}, the "
            "last layer; -2 is the last but one"
        )
    return spec.layers[0] if len(spec.layers) == 1 else list(spec.layers)


def _strategy(spec: ComposeSpec, tower: Any) -> Any:
    """transformers' word for which tokens of the tower are taken."""
    kind = tower.model_type
    if kind not in _TOWERS:
        raise InputError(
            f"model.compose.vision: {spec.vision} holds no image tower that is known (its type is {kind!r}); expected one of "
            f"{sorted(_TOWERS)}, or a model with such a part"
        )
    if spec.class_token and not _TOWERS[kind]:
        raise InputError(
            f"model.compose.class_token: a tower of type {kind!r} has no token for the whole image; leave it out"
        )
    return "default" if _TOWERS[kind] and not spec.class_token else "full"


def _renamed(weights: dict[str, torch.Tensor], like: nn.Module) -> dict[str, torch.Tensor]:
    """A tower's weights under the names of another version's or wrapper's class."""
    inner = "vision_model."
    prefix = inner if any(name.startswith(inner) for name in like.state_dict()) else ""
    return {prefix + name.removeprefix(inner): value for name, value in weights.items()}
