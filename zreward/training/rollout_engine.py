"""The engine that samples a trainer's roll-outs (`rollout.engine: vllm`), and the questions that it is checked with."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator

from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.sampling.local import check_installed
from zreward.sampling.questions import rules_of
from zreward.sampling.sampler import EngineSampler
from zreward.training.recipe import Recipe
from zreward.training.rollout_data import RolloutItem, rows_of_sides

CANARIES = 4  # items whose label distributions are compared after every update


def check_engine(model: RewardModel, recipe: Recipe, processes: int) -> None:
    """InputError, before the data is read, for what rollout.engine vllm cannot do."""
    if recipe.rollout.engine != "vllm":
        return
    if recipe.vllm.server is None:
        check_installed()
    rules_of(model)
    if processes > 1 and recipe.vllm.server is None:
        raise InputError(
            f"recipe: rollout.engine vllm in the trainer's own process was tried with one process only, these are {processes}; "
            "let them ask one server (vllm.server), or use rollout.engine generate"
        )


def start_sampler(
    model: RewardModel, recipe: Recipe, items: Sequence[RolloutItem], accelerator: Accelerator
) -> EngineSampler:
    """vLLM with the model's weights, checked with these items' pictures."""
    sides = [(record, item.dimension) for item in items for record in item.records]
    images = [model.decode(picture) for record, _ in sides for picture in record.pictures]
    rows = rows_of_sides(sides)
    processes = accelerator if accelerator.num_processes > 1 else None
    # The model itself may still be on the CPU, where FSDP and DeepSpeed take it from.
    return EngineSampler(model, recipe.vllm, (images, rows), accelerator.device, processes)
