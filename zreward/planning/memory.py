"""Bytes of one GPU, by kind. Formulas count what PyTorch, PEFT, FSDP and DeepSpeed keep; docs/guides/planning.md lists them.

Trained weights are float32, whatever the model's format; frozen ones have the model's format.
"""

from __future__ import annotations

from dataclasses import dataclass

from zreward.models.backbone import head_rows
from zreward.planning.cards import GB
from zreward.planning.engines import Engine
from zreward.planning.shapes import LINEAR_TEXT, TEXT, VISION, Block, Shape
from zreward.planning.tokens import Pieces
from zreward.training.recipe import Recipe

MASTER = 4  # bytes of a trained weight, and of its gradient
MOMENTS = 8  # bytes of AdamW's two averages
LOGIT_COPIES = 3  # float32 copies of a chunk's logits at the peak of the backward pass
RESERVE, RESERVED_SHARE = 1.5 * GB, 0.05  # CUDA's context, NCCL; fragmentation, as a share of the card's memory
_BUCKET, _LIVE = 5 * 10**8, 10**9  # DeepSpeed's defaults, in numbers: reduce and prefetch buckets, live parameters
_WY_CHUNK = 64  # tokens of a chunk of gated-delta attention, for which its kernel keeps a triangle


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU. `total` is the peak: the larger of roll-out and update, beside what always stays."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    kv_cache: int
    communication: int
    reference: int
    teacher: int
    reserve: int

    @property
    def total(self) -> int:
        stays = self.weights + self.gradients + self.optimizer + self.communication + self.reference + self.teacher
        return stays + max(self.activations + self.logits, self.kv_cache) + self.reserve

    def to_dict(self) -> dict[str, int]:
        return {**vars(self), "total": self.total}


def memory_of(
    recipe: Recipe, shape: Shape, teacher: Shape | None, pieces: Pieces, engine: Engine, itemsize: int, card_bytes: int
) -> Memory:
    """What one GPU holds at the peak of a step.

    Args:
        recipe: optimizer, checkpointing and the weight of the reference.
        shape: the trained network's.
        teacher: OPD's, frozen.
        pieces: the tokens of a pass.
        engine: how states are sharded.
        itemsize: bytes of a number in matrix products: 2 in bfloat16, 4 in float32.
        card_bytes: memory of a GPU, for the reserve.
    """
    low = engine.is_deepspeed and itemsize < MASTER  # DeepSpeed's masters belong to its optimizer
    parts, trained = engine.parts, shape.trainable
    weights = shape.frozen_bytes + trained * (itemsize if low else MASTER)
    optimizer = trained * (moments(recipe) + (MASTER if low else 0))
    return Memory(
        weights=weights // parts["weights"],
        gradients=MASTER * trained // parts["gradients"],
        optimizer=optimizer // parts["optimizer"],
        activations=activation_bytes(recipe, shape, pieces, engine, itemsize),
        logits=logit_bytes(shape, pieces, engine, itemsize),
        kv_cache=cache_bytes(shape, pieces, itemsize),
        communication=_communication(shape, engine, itemsize),
        reference=_reference(recipe, shape),
        teacher=teacher.frozen_bytes // parts["weights"] if teacher else 0,
        reserve=round(RESERVE + RESERVED_SHARE * card_bytes),
    )


def moments(recipe: Recipe) -> int:
    """Bytes of the optimizer's states for a weight; AdamW's for optimizers that are not known here."""
    name = str(recipe.trainer.get("optim", ""))
    return 2 if "8bit" in name else 0 if name in ("sgd", "adafactor") else MOMENTS


def _reference(recipe: Recipe, shape: Shape) -> int:
    """The copy of the start that the KL penalty needs; an adapter is switched off instead. It is not sharded."""
    is_adapter = shape.numbers > shape.parameters
    return 0 if recipe.rollout.beta == 0 or is_adapter else shape.frozen_bytes + MASTER * shape.trainable


def _communication(shape: Shape, engine: Engine, itemsize: int) -> int:
    """Buckets of gradients, and weights that are gathered for a moment."""
    if engine.gpus == 1:
        return 0
    if engine.name == "ddp":
        return MASTER * shape.trainable
    if engine.name == "fsdp":
        if not engine.reshards:
            return itemsize * shape.numbers
        largest = max(shape.blocks, key=lambda block: block.numbers)
        outside_trained = shape.trainable - sum(block.trainable for block in shape.blocks)
        gathered = itemsize * (shape.outside + 2 * largest.numbers)  # the root's, a block's, the next one's
        return gathered + MASTER * (largest.trainable + outside_trained)
    buckets = 2 * itemsize * min(_BUCKET, shape.trainable)
    return buckets + (itemsize * min(_LIVE, shape.numbers) if engine.name == "zero3" else 0)


def logit_bytes(shape: Shape, pieces: Pieces, engine: Engine, itemsize: int) -> int:
    """Logits over the vocabulary: for a trace's log-probabilities in chunks, else for the answers of a sharded head."""
    if pieces.traced:
        chunk = min(head_rows(shape.vocabulary), pieces.traced)
        kept = pieces.traced - chunk if engine.name == "zero3" else 0  # there they are not computed again
        return (LOGIT_COPIES * chunk + kept) * shape.vocabulary * MASTER
    return pieces.rows * shape.vocabulary * (MASTER + itemsize) if engine.shards else 0


def cache_bytes(shape: Shape, pieces: Pieces, itemsize: int) -> int:
    """Keys and values of all sequences of a roll-out at their full length, and states of linear attention."""
    keys = 2 * shape.keys * itemsize * len(shape.of(TEXT)) * pieces.lengths.row
    states = MASTER * shape.state * len(shape.of(LINEAR_TEXT))
    return pieces.sequences * (keys + states)


def activation_bytes(recipe: Recipe, shape: Shape, pieces: Pieces, engine: Engine, itemsize: int) -> int:
    """What a piece's forward pass keeps for its backward pass, at the peak."""
    language = _kept(recipe, shape, shape.of(TEXT, LINEAR_TEXT), pieces.tokens, shape.hidden, engine, itemsize)
    patches = pieces.images * pieces.lengths.image * shape.merge
    tower = shape.of(VISION)
    if shape.trains_vision:
        vision = _kept(recipe, shape, tower, patches, shape.vision_hidden, engine, itemsize)
    else:
        vision = patches * max((block_bytes(block, shape, itemsize) for block in tower), default=0)  # one layer's
    casts = 0
    if engine.name in ("none", "ddp") and itemsize < MASTER:
        casts = itemsize * shape.trainable  # autocast keeps the weights that it rounded
    ends = pieces.tokens * shape.hidden * (MASTER + itemsize)  # embeddings, the last norm
    return language + vision + casts + ends


def _kept(
    recipe: Recipe, shape: Shape, blocks: tuple[Block, ...], tokens: int, hidden: int, engine: Engine, itemsize: int
) -> int:
    sizes = [tokens * block_bytes(block, shape, itemsize) for block in blocks]
    if not recipe.optimizer.gradient_checkpointing:
        return sum(sizes)
    # Between blocks runs float32 where embeddings are trained under autocast, else the model's format.
    rounded = engine.name not in ("none", "ddp") or not shape.embedding_trained
    stream = min(itemsize, shape.itemsize) if rounded else MASTER
    return tokens * hidden * stream * len(blocks) + max(sizes, default=0)


def block_bytes(block: Block, shape: Shape, itemsize: int) -> int:
    """What one block keeps of a token (vision: of a patch) for its backward pass.

    Norms compute in float32. Linear layers keep their input where they are trained, each its own copy. Attention keeps
    queries, keys, values and output; gated layers both factors. Of linear attention, what flash-linear-attention's kernels keep.
    """
    norm = MASTER * (2 if shape.norms_trained else 1)
    if block.kind == VISION:
        hidden, wide = shape.vision_hidden, shape.vision_feed_forward
        return 2 * hidden * MASTER + itemsize * (block.inputs + 4 * hidden + wide)
    kept = 2 * shape.hidden * norm + itemsize * (block.inputs + 3 * shape.feed_forward)
    if block.kind == TEXT:
        queries, keys = shape.queries, shape.keys
        return kept + (queries + keys) * norm + itemsize * (4 * queries + 2 * keys)
    mixed = 2 * shape.linear_keys + shape.linear_values
    heads = itemsize * _WY_CHUNK + 2 * MASTER
    return kept + itemsize * (2 * mixed + 6 * shape.linear_values) + shape.linear_heads * heads
