"""The nearest configuration that fits, where a recipe's own does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from zreward.planning.networks import Network, network_of, teacher_of
from zreward.planning.plan import Machines, Plan, planned
from zreward.planning.shapes import Shape, shape_of
from zreward.training.methods import find_method
from zreward.training.recipe import Recipe

ORDER = "gradient checkpointing, smaller pieces, sharding, LoRA, more GPUs"
MOST_GPUS = 64
_RANK = 64
_SHARDED = {"none": "fsdp", "ddp": "fsdp", "zero1": "zero3", "zero2": "zero3"}


@dataclass(frozen=True)
class Candidate:
    """A changed recipe. `changes` are in the words of the command line."""

    recipe: Recipe
    machines: Machines
    changes: tuple[str, ...]


def nearest(recipe: Recipe, machines: Machines) -> tuple[Candidate, Plan] | None:
    """The first configuration that fits, in a stated order; None where none does.

    First what leaves the result as it is, fewest changes first (gradient checkpointing, smaller pieces of a step, sharding over
    the same GPUs); then LoRA instead of all weights; then twice as many GPUs, and so on up to 64.
    """
    counted: dict[int | None, tuple[Network, Shape]] = {}
    found = teacher_of(recipe, machines.teacher_config)
    teacher = shape_of(found) if found else None
    for candidate in _candidates(recipe, machines):
        rank = candidate.recipe.model.lora_rank
        if rank not in counted:
            network = network_of(candidate.recipe, machines.config)
            counted[rank] = network, shape_of(network, recipe.model.quantization)
        plan = planned(candidate.recipe, candidate.machines, *counted[rank], teacher)
        if plan.fits:
            return candidate, plan
    return None


def _candidates(recipe: Recipe, machines: Machines) -> Iterator[Candidate]:
    start = Candidate(recipe, machines, ())
    for more in _with_gpus(start):
        for adapted in _with_lora(more):
            options = [list(step(adapted)) for step in (_sharded, _in_pieces, _recomputing)]
            combined = [_combine(adapted, each) for each in product(*options)]
            yield from sorted(combined, key=lambda one: len(one.changes))  # stable: sharding comes last


def _combine(start: Candidate, parts: tuple[Candidate, ...]) -> Candidate:
    """Each part changes something else of `start`."""
    sharded, pieces, checkpointed = parts
    recipe = replace(
        pieces.recipe,
        optimizer=replace(
            pieces.recipe.optimizer,
            gradient_checkpointing=checkpointed.recipe.optimizer.gradient_checkpointing,
        ),
    )
    own = tuple(text for part in reversed(parts) for text in part.changes[len(start.changes) :])
    return Candidate(recipe, sharded.machines, start.changes + own)


def _recomputing(start: Candidate) -> Iterator[Candidate]:
    yield start
    if not start.recipe.optimizer.gradient_checkpointing:
        optimizer = replace(start.recipe.optimizer, gradient_checkpointing=True)
        yield _changed(start, "optimizer.gradient_checkpointing=true", optimizer=optimizer)


def _in_pieces(start: Candidate) -> Iterator[Candidate]:
    """Fewer sequences in a pass of a roll-out method; fewer rows in a batch, and more batches in a step, of others."""
    yield start
    recipe = start.recipe
    size, times = recipe.optimizer.batch_size, recipe.optimizer.gradient_accumulation
    if find_method(recipe.method).reasons:
        sides = size * (1 if recipe.method == "opd" else 2)
        rows = min(recipe.rollout.sequences_per_forward or sides * recipe.rollout.group_size, 2**20)
        while rows > 1:
            rows //= 2
            rollout = replace(recipe.rollout, sequences_per_forward=rows)
            yield _changed(start, f"rollout.sequences_per_forward={rows}", rollout=rollout)
        return
    while size % 2 == 0:
        size, times = size // 2, times * 2
        optimizer = replace(recipe.optimizer, batch_size=size, gradient_accumulation=times)
        text = f"optimizer.batch_size={size} optimizer.gradient_accumulation={times}"
        yield _changed(start, text, optimizer=optimizer)


def _sharded(start: Candidate) -> Iterator[Candidate]:
    yield start
    engine = start.machines.engine
    if engine.gpus > 1 and engine.name in _SHARDED and not start.recipe.model.quantization:
        name = _SHARDED[engine.name]
        machines = replace(start.machines, engine=replace(engine, name=name, reshards=True))
        yield Candidate(start.recipe, machines, (*start.changes, f"--engine {name}"))


def _with_lora(start: Candidate) -> Iterator[Candidate]:
    yield start
    if start.recipe.model.lora_rank is None:
        model = replace(start.recipe.model, lora_rank=_RANK, lora_alpha=2 * _RANK)
        yield _changed(start, f"model.lora_rank={_RANK} model.lora_alpha={2 * _RANK}", model=model)


def _with_gpus(start: Candidate) -> Iterator[Candidate]:
    """As they are, then doubled: with sharding they help, and the global batch grows with them."""
    yield start
    engine = start.machines.engine
    gpus = engine.gpus * 2
    while gpus <= MOST_GPUS:
        name = "ddp" if engine.name == "none" else engine.name
        machines = replace(start.machines, engine=replace(engine, name=name, gpus=gpus))
        yield Candidate(start.recipe, machines, (*start.changes, f"--gpus {gpus}"))
        gpus *= 2


def _changed(start: Candidate, text: str, **parts: object) -> Candidate:
    return Candidate(replace(start.recipe, **parts), start.machines, (*start.changes, text))  # type: ignore[arg-type]
