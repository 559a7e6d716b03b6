"""A run that goes on with another number of processes keeps its global batch: the rows or pairs of one optimizer step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.common.files import write_json
from zreward.common.runs import say
from zreward.training.recipe import Recipe

FILE = "processes.json"
_LARGEST = 2**53  # rows, as recipes take them
_PROCESSES = 65_536  # that are tried as divisors


def note_processes(run: Path, recipe: Recipe, processes: int) -> None:
    """Write down what the run's steps are made of."""
    write_json(run / FILE, {"processes": processes, "global_batch": global_batch(recipe, processes)})


def global_batch(recipe: Recipe, processes: int) -> int:
    return recipe.optimizer.batch_size * recipe.optimizer.gradient_accumulation * processes


def keep_global_batch(run: Path, recipe: Recipe, processes: int) -> Recipe:
    """The recipe with the global batch that the run began with, by other accumulation steps or a smaller batch.

    Runs of older versions did not write theirs down, and go on as their recipe says.

    Raises:
        InputError: this number of processes cannot make it; a damaged file.
    """
    file = run / FILE
    if not file.exists():
        return recipe
    begun = _begun_with(file)
    if global_batch(recipe, processes) == begun:
        return recipe
    share, left = divmod(begun, processes)
    if left:
        able = [str(n) for n in range(1, min(begun, _PROCESSES) + 1) if begun % n == 0]
        named = f"{', '.join(able[:-1])} or {able[-1]}" if len(able) > 1 else able[0]
        raise InputError(
            f"{run} was started with a global batch of {begun}, which {processes} processes cannot share evenly; resume with "
            f"{named}"
        )
    size = next(size for size in range(min(recipe.optimizer.batch_size, share), 0, -1) if share % size == 0)
    optimizer = replace(recipe.optimizer, batch_size=size, gradient_accumulation=share // size)
    say(
        f"{run} goes on in {processes} processes with its global batch of {begun}: optimizer.batch_size={size}, "
        f"optimizer.gradient_accumulation={share // size}"
    )
    return replace(recipe, optimizer=optimizer)


def _begun_with(file: Path) -> int:
    begun = read_json(file).get("global_batch")
    if not isinstance(begun, int) or isinstance(begun, bool) or not 0 < begun <= _LARGEST:
        raise InputError(
            f"{file}: global_batch is {shown(begun)}, expected a number of rows, 1 to {_LARGEST:,}. The file is damaged: write "
            "the right number into it (optimizer.batch_size x optimizer.gradient_accumulation x processes of the first start)"
        )
    return begun
