"""Floating-point operations of a step, and how long it takes at a stated share of the card's stated peak."""

from __future__ import annotations

from dataclasses import dataclass

from zreward.planning.cards import Card
from zreward.planning.engines import Engine
from zreward.planning.shapes import LINEAR_TEXT, TEXT, VISION, Block, Shape
from zreward.planning.tokens import Pieces
from zreward.training.recipe import Recipe

UTILISATION = 0.35  # of the stated peak: 346 of 989 TFLOP/s were measured in forward passes of the 9 B model on an H100
BANDWIDTH_SHARE = 0.6  # of the stated memory bandwidth, while decoding
LAYER_SECONDS = 1.4e-3  # of a layer and decoding step with `generate`: 687 tokens/s of 32 sequences, 9 B model, H100
_STATE_WORK = 8  # operations a number of a gated-delta state and token


@dataclass(frozen=True)
class Work:
    """FLOP of one GPU in a step, by phase, and seconds."""

    rollout: float
    forward_only: float
    training: float
    rollout_seconds: float
    update_seconds: float

    @property
    def flops(self) -> float:
        return self.rollout + self.forward_only + self.training

    @property
    def seconds(self) -> float:
        return self.rollout_seconds + self.update_seconds


def work_of(
    recipe: Recipe, shape: Shape, teacher: Shape | None, pieces: Pieces, engine: Engine, itemsize: int, card: Card
) -> Work:
    """One GPU's work in a step; communication and the opening of pictures are not in it."""
    again = 1 if recipe.optimizer.gradient_checkpointing else 0
    context = pieces.lengths.row / 2  # tokens that a token looks back on, in the mean
    vision = _vision_pass(shape, pieces, 2 if shape.trains_vision else 0, again if shape.trains_vision else 0)
    head = 2 * pieces.traced * shape.head
    heads = head * 3  # forward, again in the backward pass, and for the gradient to its input
    learned = pieces.times * (_language_pass(shape, pieces.tokens, context, 2, again) + vision + heads)
    plain = _language_pass(shape, pieces.tokens, context) + _vision_pass(shape, pieces) + head
    forward_only = pieces.times * pieces.unlearned * plain
    if teacher is not None:
        of_teacher = _language_pass(teacher, pieces.tokens, context) + _vision_pass(teacher, pieces)
        forward_only += pieces.times * (of_teacher + 2 * pieces.traced * teacher.head)
    prefill, decoding = 0.0, 0.0
    steps = pieces.rollouts * pieces.lengths.trace if pieces.sequences else 0
    if pieces.sequences:
        pictures = pieces.sides * pieces.lengths.image * shape.merge
        prefill = pieces.rollouts * (
            _language_pass(shape, pieces.prefill, context) + pictures * _vision_token(shape, pieces)
        )
        decoding = steps * pieces.sequences * (_language_pass(shape, 1, context) + 2 * shape.head)
    rate = card.peak(itemsize) * UTILISATION
    read = itemsize * shape.numbers / (card.bandwidth * BANDWIDTH_SHARE)  # every weight, once a decoding step
    layers = LAYER_SECONDS * len(shape.of(TEXT, LINEAR_TEXT))
    return Work(
        prefill + decoding,
        forward_only,
        learned,
        prefill / rate + steps * max(read, layers, decoding / max(steps, 1) / rate),
        (forward_only + learned) / rate,
    )


def _language_pass(shape: Shape, tokens: float, context: float, backward: int = 0, again: int = 0) -> float:
    return tokens * sum(_token(block, shape, context, backward, again) for block in shape.of(TEXT, LINEAR_TEXT))


def _token(block: Block, shape: Shape, context: float, backward: int, again: int) -> float:
    """Of one token: a product for every weight forward, one for the gradient to its input, one for a trained weight's own."""
    attention = 4 * shape.queries * context if block.kind == TEXT else _STATE_WORK * shape.state
    weights = 2 * block.multiplied
    own = 2 * block.multiplied_trainable if backward else 0
    return weights * (1 + again + backward / 2) + own + attention * (1 + again + backward)


def _vision_token(shape: Shape, pieces: Pieces, backward: int = 0, again: int = 0) -> float:
    patches = pieces.lengths.image * shape.merge
    attention = 4 * shape.vision_hidden * patches
    return sum(
        2 * block.multiplied * (1 + again + backward / 2)
        + (2 * block.multiplied_trainable if backward else 0)
        + attention * (1 + again + backward)
        for block in shape.of(VISION)
    )


def _vision_pass(shape: Shape, pieces: Pieces, backward: int = 0, again: int = 0) -> float:
    return pieces.images * pieces.lengths.image * shape.merge * _vision_token(shape, pieces, backward, again)
