"""What memory and work depend on, read off a network without weights: its blocks, their linear layers, its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from zreward.common.errors import InputError
from zreward.planning.networks import Network

TEXT, LINEAR_TEXT, VISION = "attention", "linear attention", "vision"


@dataclass(frozen=True)
class Block:
    """A layer that is sharded and recomputed as one."""

    kind: str  # TEXT, LINEAR_TEXT or VISION
    numbers: int  # of all its weights
    trainable: int
    multiplied: int  # weights of linear layers, which every token passes
    multiplied_trainable: int
    inputs: int  # numbers a token that trained linear layers keep for their gradient


@dataclass(frozen=True)
class Shape:
    """A network in numbers. Widths are those of one token (vision: of one patch)."""

    parameters: int  # without an adapter
    numbers: int  # with it
    trainable: int
    frozen_bytes: int  # as stored, quantised where it is
    itemsize: int  # of frozen weights, unquantised
    embedding_trained: bool
    norms_trained: bool
    blocks: tuple[Block, ...]
    hidden: int
    feed_forward: int
    vocabulary: int
    head: int  # weights of the output layer
    queries: int  # numbers of a token's queries, of all heads
    keys: int  # of its keys
    linear_keys: int  # the same of linear attention, 0 without
    linear_values: int
    linear_heads: int
    state: int  # numbers of one linear layer's recurrent and convolution state
    vision_hidden: int
    vision_feed_forward: int
    merge: int  # patches that become one image token
    patch: int  # pixels a side of an image token; 0: an image has `image_tokens`, whatever its size
    image_tokens: int

    def of(self, *kinds: str) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if block.kind in kinds)

    @property
    def trains_vision(self) -> bool:
        return any(block.trainable for block in self.of(VISION))

    @property
    def outside(self) -> int:
        """Numbers of the weights that belong to no block: embeddings, output layer, last norms."""
        return self.numbers - sum(block.numbers for block in self.blocks)


def shape_of(network: Network, quantization: str | None = None) -> Shape:
    """Count a network. InputError for a vision tower whose sizes are not understood."""
    backbone, config, text = network.backbone, network.config, network.text
    vision = getattr(config, "vision_config", None)
    if vision is None:
        raise InputError(f"{config.model_type} has no vision tower; expected an image-text-to-text model")
    base, weights = backbone.base, list(backbone.parameters())
    head = base.get_output_embeddings()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    key_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    blocks = _blocks(backbone)
    linear = _linear_attention(text) if any(block.kind == LINEAR_TEXT for block in blocks) else (0, 0, 0, 0)
    merge, patch, image_tokens = _images(config, vision)
    return Shape(
        parameters=network.own_parameters,
        numbers=sum(weight.numel() for weight in weights),
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        frozen_bytes=_frozen_bytes(backbone, quantization),
        itemsize=network.dtype.itemsize,
        embedding_trained=base.get_input_embeddings().weight.requires_grad,
        norms_trained=any(weight.requires_grad for name, weight in backbone.named_parameters() if "norm" in name),
        blocks=blocks,
        hidden=text.hidden_size,
        feed_forward=text.intermediate_size,
        vocabulary=text.vocab_size,
        head=head.weight.numel(),
        queries=text.num_attention_heads * head_dim,
        keys=key_heads * head_dim,
        linear_keys=linear[0],
        linear_values=linear[1],
        linear_heads=linear[2],
        state=linear[3],
        vision_hidden=vision.hidden_size,
        vision_feed_forward=_feed_forward(vision),
        merge=merge,
        patch=patch,
        image_tokens=image_tokens,
    )


def _linear_attention(text: Any) -> tuple[int, int, int, int]:
    """Keys, values, heads, and numbers of the state, of one gated-delta layer."""
    heads, size = text.linear_num_value_heads, text.linear_key_head_dim
    keys, values = text.linear_num_key_heads * size, heads * text.linear_value_head_dim
    return keys, values, heads, values * size + (2 * keys + values) * text.linear_conv_kernel_dim


def _feed_forward(vision: Any) -> int:
    """Width of a tower's feed-forward layers; DINOv2's configuration has their ratio to the states' width."""
    if hasattr(vision, "intermediate_size"):
        return vision.intermediate_size
    if vision.model_type.startswith("dinov2"):
        return int(vision.hidden_size * vision.mlp_ratio)
    raise InputError(
        f"a vision tower of type {vision.model_type!r} has no intermediate_size: its memory cannot be planned; expected a CLIP, "
        "SigLIP, DINOv2 or Qwen-VL tower"
    )


def _images(config: Any, vision: Any) -> tuple[int, int, int]:
    """Patches that become a token, pixels a side of a token, and tokens of an image where they do not depend on its size."""
    merge = getattr(vision, "spatial_merge_size", None)
    if merge:
        return merge**2, vision.patch_size * merge, 0
    tokens = getattr(config, "image_seq_length", None) or (vision.image_size // vision.patch_size) ** 2
    return 1, 0, tokens


def _blocks(backbone: Any) -> tuple[Block, ...]:
    names = set(backbone.base._no_split_modules or ())
    tower = {id(module) for module in backbone.vision_tower.modules()}
    return tuple(
        _block(module, id(module) in tower)
        for module in backbone.base.modules()
        if type(module).__name__ in names and len(list(module.children())) > 1
    )


def _block(module: nn.Module, in_tower: bool) -> Block:
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    trained = [part for part in linears if part.weight.requires_grad]
    weights = list(module.parameters())
    kind = VISION if in_tower else LINEAR_TEXT if hasattr(module, "linear_attn") else TEXT
    return Block(
        kind,
        sum(weight.numel() for weight in weights),
        sum(weight.numel() for weight in weights if weight.requires_grad),
        sum(part.weight.numel() for part in linears),
        sum(part.weight.numel() for part in trained),
        sum(part.in_features for part in trained),
    )


def _frozen_bytes(backbone: Any, quantization: str | None) -> int:
    """Of all weights that are not trained; bitsandbytes packs those of linear layers, except the output layer's."""
    packed = {}
    if quantization:
        head = backbone.base.get_output_embeddings()
        linears = (part for part in backbone.modules() if isinstance(part, nn.Linear) and part is not head)
        packed = {id(part.weight): part for part in linears if not part.weight.requires_grad}
    total = 0
    for weight in backbone.parameters():
        if weight.requires_grad:
            continue
        linear = packed.get(id(weight))
        if linear is None:
            total += weight.numel() * weight.element_size()
        elif quantization == "4bit":
            total += -(-weight.numel() // 2) + 4 * -(-weight.numel() // 64)  # a float32 scale for 64 numbers
        else:
            total += weight.numel() + 4 * linear.out_features  # a float32 scale for a row
    return total
