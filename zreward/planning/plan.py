"""The plan of a recipe on its machines: parameters, bytes of a GPU, tokens, FLOP, seconds, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.models.backbone import head_rows
from zreward.planning.cards import GB, Card
from zreward.planning.engines import Engine
from zreward.planning.memory import (
    LOGIT_COPIES,
    RESERVE,
    RESERVED_SHARE,
    Memory,
    memory_of,
    moments,
)
from zreward.planning.networks import SHIPPED, Network, network_of, teacher_of
from zreward.planning.shapes import LINEAR_TEXT, Shape, shape_of
from zreward.planning.tokens import LETTERS, PROMPT, Pieces, pieces_of
from zreward.planning.work import BANDWIDTH_SHARE, LAYER_SECONDS, UTILISATION, Work, work_of
from zreward.training.recipe import Recipe


@dataclass(frozen=True)
class Machines:
    """What a recipe is planned for. `config` and `teacher_config` are configurations by hand."""

    card: Card
    memory: int  # bytes of a GPU
    engine: Engine
    config: Path | None = None
    teacher_config: Path | None = None


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    machines: Machines
    shape: Shape
    pieces: Pieces
    memory: Memory
    work: Work
    itemsize: int  # bytes of a number in matrix products
    assumptions: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.machines.memory

    @property
    def tokens(self) -> dict[str, int]:
        """Of an optimizer step on all GPUs; `micro_batch` are one GPU's in one pass, `row` one row's."""
        pieces, gpus = self.pieces, self.machines.engine.gpus
        passed = gpus * pieces.times * pieces.tokens
        return {
            "row": pieces.lengths.row,
            "image": pieces.lengths.image,
            "micro_batch": pieces.tokens,
            "training": passed,
            "forward_only": round(passed * pieces.unlearned),
            "prefill": round(gpus * pieces.rollouts * pieces.prefill),
            "sampled": round(gpus * pieces.rollouts * pieces.sequences * pieces.lengths.trace),
        }

    def headline(self) -> str:
        """One line: what a recipe's header prints."""
        engine, flops = self.machines.engine, self.work.flops * self.machines.engine.gpus
        return (
            f"{_count(self.shape.parameters)} parameters, {_count(self.shape.trainable)} trained; "
            f"{self.memory.total / GB:.1f} of {self.machines.memory / GB:.0f} GB on each of {engine.gpus} "
            f"{self.machines.card.name} ({engine.name}): {'fits' if self.fits else 'does not fit'}; "
            f"{flops:.2g} FLOP and about {self.work.seconds:.0f} s a step"
        )

    def to_dict(self) -> dict[str, Any]:
        gpus = self.machines.engine.gpus
        return {
            "parameters": self.shape.parameters,
            "trainable": self.shape.trainable,
            "bytes": self.memory.to_dict(),
            "fits": self.fits,
            "tokens": self.tokens,
            "flops": {
                "rollout": gpus * self.work.rollout,
                "forward_only": gpus * self.work.forward_only,
                "training": gpus * self.work.training,
                "total": gpus * self.work.flops,
            },
            "seconds": {
                "rollout": self.work.rollout_seconds,
                "update": self.work.update_seconds,
                "step": self.work.seconds,
                "run": self.work.seconds * self.recipe.optimizer.steps,
            },
            "machines": {
                "engine": self.machines.engine.name,
                "gpus": gpus,
                "card": self.machines.card.name,
                "memory": self.machines.memory,
            },
            "assumptions": list(self.assumptions),
        }


def _count(number: int) -> str:
    """27.36 B, or 1.52 M."""
    return f"{number / 1e9:.2f} B" if number >= 10**8 else f"{number / 1e6:.2f} M"


def make_plan(recipe: Recipe, machines: Machines) -> Plan:
    """Plan a recipe. InputError for a configuration that is missing, and for recipes that no machine can train."""
    _refuse(recipe, machines.engine)
    network = network_of(recipe, machines.config)
    shape = shape_of(network, recipe.model.quantization)
    found = teacher_of(recipe, machines.teacher_config)
    return planned(recipe, machines, network, shape, shape_of(found) if found else None)


def planned(recipe: Recipe, machines: Machines, network: Network, shape: Shape, teacher: Shape | None) -> Plan:
    """The arithmetic alone, for a network that is counted already."""
    if not shape.trainable:
        raise InputError(
            "recipe: nothing is trained: the checkpoint's weights are frozen and model.lora_rank is not set"
        )
    engine = machines.engine
    itemsize = _itemsize(recipe, network, engine)
    pieces = pieces_of(recipe, network, shape)
    memory = memory_of(recipe, shape, teacher, pieces, engine, itemsize, machines.memory)
    work = work_of(recipe, shape, teacher, pieces, engine, itemsize, machines.card)
    return Plan(
        recipe, machines, shape, pieces, memory, work, itemsize, _assumptions(recipe, machines, shape, pieces, itemsize)
    )


def _refuse(recipe: Recipe, engine: Engine) -> None:
    wanted = recipe.model
    if wanted.quantization is None:
        return
    if wanted.lora_rank is None:
        raise InputError(
            f"recipe: model.quantization {wanted.quantization} packs all weights, which then cannot be trained; set "
            "model.lora_rank, or leave model.quantization out"
        )
    if engine.shards:
        raise InputError(
            f"recipe: {engine.name} does not shard weights of model.quantization {wanted.quantization}; use ddp or zero2"
        )


def _itemsize(recipe: Recipe, network: Network, engine: Engine) -> int:
    mixed = engine.mixed or recipe.trainer.get("bf16") or recipe.trainer.get("fp16")
    return 2 if mixed else network.dtype.itemsize


def _assumptions(recipe: Recipe, machines: Machines, shape: Shape, pieces: Pieces, itemsize: int) -> tuple[str, ...]:
    card, engine = machines.card, machines.engine
    lines = [
        "trained weights, their gradients and AdamW's averages are float32; frozen weights have the model's format",
        f"pictures are as large as the recipe allows ({pieces.lengths.image:,} tokens; model.pixel_budget limits them)",
        f"prompts have {PROMPT} tokens, other texts a token for {LETTERS} letters",
        f"logits: {LOGIT_COPIES} float32 copies of at most {head_rows(shape.vocabulary):,} tokens over the vocabulary",
        f"reserve: {RESERVE / GB:.1f} GB for CUDA and NCCL and {RESERVED_SHARE:.0%} of the memory for fragmentation; "
        "the total counts the larger of roll-out (kv_cache) and update (activations, logits)",
        f"time: {UTILISATION:.0%} of the {card.name}'s stated {card.peak(itemsize) / 1e12:.0f} TFLOP/s; communication and "
        "opening pictures are not counted",
    ]
    attention = recipe.model.attn_implementation
    if attention is not None:
        kept = "; its matrices of tokens by tokens are not counted" if attention == "eager" else ""
        lines.append(f"attention: {attention}{kept}")
    if pieces.sequences:
        lines.append(
            f"traces are {pieces.lengths.trace:,} tokens long; a decoding step of `generate` takes {LAYER_SECONDS * 1e3:.1f} ms "
            f"a layer, or reads the weights at {BANDWIDTH_SHARE:.0%} of {card.bandwidth / 1e12:.2f} TB/s if that takes longer"
        )
    if pieces.sequences and engine.shards and engine.gpus > 1:
        lines.append(
            f"each decoding step of `generate` gathers all weights ({itemsize * shape.numbers / GB:.1f} GB) under {engine.name}; "
            "that time is not counted"
        )
    if shape.of(LINEAR_TEXT):
        lines.append(
            "flash-linear-attention is installed; without it, linear-attention layers keep about 0.6 MiB a token and layer"
        )
    lines.append(
        "what rows have in common is encoded once" if pieces.shared else "every row is read whole (no shared prefix)"
    )
    if recipe.model.name in SHIPPED and machines.config is None:
        lines.append(f"the sizes of {recipe.model.name} are those shipped with zreward")
    if moments(recipe) == 8 and recipe.trainer.get("optim"):
        lines.append(f"trainer.optim {recipe.trainer['optim']} is counted as AdamW")
    if engine.offloads:
        lines.append("offloading to the machine's memory is not counted: everything stays on the GPU")
    return tuple(lines)
