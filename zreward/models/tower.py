"""What the projector of a LLaVA-type model is given: states of its vision tower, as tokens, pooled where that was asked for.

transformers knows no pooling. A folder whose config.json has `image_pool: 2` is an ordinary LLaVA folder, in which zreward gives
the projector the mean of every 2 x 2 tokens. Tokens that stand for no patch (a class token, registers) stay as they are.

Shapes: P images, T tokens, C numbers of a token.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from zreward.common.errors import InputError, shown

_PROJECTOR = "multi_modal_projector"
KEY = "image_pool"
"""Of a model's configuration: tokens a side that become one."""


def projector_of(model: Any) -> Any:
    """The module between vision tower and language model; InputError for a model that has none of its own."""
    projector = getattr(model.model, _PROJECTOR, None)
    if projector is None or not hasattr(model.config, "vision_feature_layer"):
        raise InputError(
            f"model type {model.config.model_type!r} has no projector that pooled or cached image features could be given to; "
            "expected a LLaVA-type model"
        )
    return projector


def projector_name(model: Any) -> str:
    """The projector's name among a model's modules, for PEFT."""
    projector_of(model)
    return _PROJECTOR


def pool_images(model: Any, size: int) -> None:
    """Let a model's projector get the means of `size` x `size` tokens of an image; 1: every token.

    The configuration records it, and `followed` does the same for a model that was loaded.
    """
    projector_of(model)
    if not 1 <= size <= patches_a_side(model.config):
        raise InputError(
            f"model.{KEY} is {size}, expected 1 to {patches_a_side(model.config)}, the patches on a side of an image"
        )
    setattr(model.config, KEY, size)
    followed(model)


def followed(model: Any) -> Any:
    """The model, which pools from now on as its configuration says. InputError where it cannot."""
    size = recorded_pool(getattr(model.config, KEY, 1))
    projector = getattr(getattr(model, "model", None), _PROJECTOR, None)
    if projector is None:
        return model if size == 1 else projector_of(model)
    for key in [key for key, hook in projector._forward_pre_hooks.items() if isinstance(hook, _Given)]:
        del projector._forward_pre_hooks[key]
    projector.register_forward_pre_hook(_Given(patches_a_side(model.config) if size > 1 else 0, size))
    return model


def recorded_pool(value: Any) -> int:
    """The size that a file records; InputError for what is none."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{KEY} is {shown(value)}, expected a whole number of at least 1")
    return value


def patches_a_side(config: Any) -> int:
    """Patches in a row of the square image that the tower takes."""
    return config.vision_config.image_size // config.vision_config.patch_size


def pooled(features_PTC: Tensor, side: int, size: int) -> Tensor:
    """(P, extra + side^2, C) -> (P, extra + ceil(side / size)^2, C); tokens that are fewer were pooled before."""
    extra = features_PTC.shape[1] - side**2
    if extra < 0 or size == 1:
        return features_PTC
    # (P, C, side, side); where `size` does not divide the side, windows overlap by as little as they can
    grid = features_PTC[:, extra:].transpose(1, 2).unflatten(2, (side, side))
    means = F.adaptive_avg_pool2d(grid, math.ceil(side / size)).flatten(2).transpose(1, 2)
    return torch.cat([features_PTC[:, :extra], means], 1)


class _Given:
    """A projector's forward pre-hook: pools, in its own number format (trained, it is float32 beside a bfloat16 tower).

    An object of its own, so that copies of the model have it too.
    """

    def __init__(self, side: int, size: int) -> None:
        self.side, self.size = side, size

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        features_PTC = arguments[0].to(next(module.parameters()).dtype)
        return pooled(features_PTC, self.side, self.size), *arguments[1:]


def tower_features(model: Any, pixels: Tensor) -> Tensor:
    """What the projector of a LLaVA-type model would be given for normalised pixels (P, 3, side, side): (P, T, C), pooled."""
    projector_of(model)
    config = model.config
    layers = config.vision_feature_layer
    states = model.model.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    if config.vision_feature_select_strategy == "default":
        chosen = [state[:, 1:] for state in chosen]
    return pooled(torch.cat(chosen, -1), patches_a_side(config), getattr(config, KEY, 1))


@torch.no_grad()
def fit_projector(model: Any, features_MC: Tensor) -> None:
    """New random weights for LLaVA's projector: every channel of a tower's states counts alike, and tokens have words' size.

    A tower's channels differ in size by factors of a hundred, and most of a state is the same in every image; a projector that
    starts from equal random weights sees little else. Ours; LLaVA starts without it.

    Args:
        model: a LLaVA model.
        features_MC: M tokens of several images, as `tower_features` gives them, in float32.
    """
    projector, words = projector_of(model), model.get_input_embeddings().weight.float()
    first, second = projector.linear_1, projector.linear_2
    mean, spread = features_MC.mean(0), features_MC.std(0).clamp(min=1e-6)
    weight = torch.randn(first.weight.shape) / features_MC.shape[1] ** 0.5 / spread
    hidden = projector.act((features_MC - mean) @ weight.T)
    out = torch.randn(second.weight.shape)
    out *= words.square().mean().sqrt() / (hidden @ out.T).square().mean().sqrt()
    for layer, values, bias in ((first, weight, -weight @ mean), (second, out, torch.zeros(len(out)))):
        layer.weight.copy_(values)
        layer.bias.copy_(bias)


def projected(model: Any, features_PTC: Tensor) -> BaseModelOutputWithPooling:
    """The same as `get_image_features` of the pixels that the features were made from."""
    tokens = projector_of(model)(features_PTC)
    return BaseModelOutputWithPooling(pooler_output=list(tokens))  # type: ignore[arg-type]
