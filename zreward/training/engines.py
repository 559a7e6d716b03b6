"""Training in several processes: DDP, FSDP2 or DeepSpeed ZeRO, as accelerate runs them; what each can do, and what it saves.

Which one it is, is said by `accelerate launch` (environment variables) or by the recipe's `trainer` (fsdp, deepspeed).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from zreward.common.errors import InputError
from zreward.common.runs import say
from zreward.training.recipe import Recipe

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone

NONE, DDP, FSDP, DEEPSPEED = "none", "ddp", "fsdp", "deepspeed"


def engine_of(arguments: TrainingArguments) -> str:
    """NONE, DDP, FSDP or DEEPSPEED, before an accelerator exists."""
    if arguments.deepspeed or _is_set("ACCELERATE_USE_DEEPSPEED"):
        return DEEPSPEED
    if arguments.fsdp or _is_set("ACCELERATE_USE_FSDP"):
        return FSDP
    return DDP if arguments.world_size > 1 else NONE


def splits_weights(arguments: TrainingArguments) -> bool:
    """Whether each process keeps a part of the weights only: FSDP and ZeRO-3."""
    return engine_of(arguments) == FSDP or is_deepspeed_zero3_enabled()


def start(recipe: Recipe, arguments: TrainingArguments) -> tuple[torch.device, int, bool]:
    """Join the other processes.

    Returns:
        Where weights are to be loaded: this process's GPU, or where an engine takes them; how many processes there are; and
        whether this one need not load any, because the engine brings them from the first one.

    Raises:
        InputError: what the engine cannot do, with what can be done instead.
    """
    device = arguments.device  # joins them
    if arguments._n_gpu > 1:
        say(
            f"one of {arguments._n_gpu} GPUs is used; `accelerate launch --num_processes {arguments._n_gpu} -m "
            "zreward.cli train ...` uses all"
        )
    engine = engine_of(arguments)
    _refuse_what_it_cannot(recipe, engine)
    place = torch.device("cpu") if engine in (FSDP, DEEPSPEED) else device
    return place, arguments.world_size, arguments.process_index > 0 and _brings_weights(engine)


def _brings_weights(engine: str) -> bool:
    """FSDP2 does where accelerate's fsdp_cpu_ram_efficient_loading is set, ZeRO-3 always."""
    return (engine == FSDP and _is_set("FSDP_CPU_RAM_EFFICIENT_LOADING")) or is_deepspeed_zero3_enabled()


def one_gpu_a_process(arguments: TrainingArguments) -> TrainingArguments:
    """Without this, transformers would split every batch over the GPUs that a single process sees."""
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


def _refuse_what_it_cannot(recipe: Recipe, engine: str) -> None:
    if engine not in (FSDP, DEEPSPEED):
        return
    if recipe.model.quantization:
        raise InputError(
            f"recipe: model.quantization does not go with {engine}, which shards weights; launch without it (each GPU then "
            "holds the quantised model), or leave model.quantization out"
        )
    if recipe.model.image_cache and (engine == FSDP or is_deepspeed_zero3_enabled()):
        raise InputError(
            "recipe: model.image_cache needs the whole vision tower in every process, and FSDP and ZeRO-3 split it; launch with "
            "DDP or ZeRO-2 (a frozen tower has no gradients and no optimizer state to split), or leave model.image_cache out"
        )
    if recipe.rollout.engine == "vllm" and recipe.vllm.server is None:
        raise InputError(
            f"recipe: rollout.engine vllm in the trainer's own process does not go with {engine}, which splits the weights; "
            "let all processes ask one server (vllm.server), or use rollout.engine generate"
        )
    if recipe.rollout.beta and not recipe.model.lora_rank:
        raise InputError(
            f"recipe: rollout.beta with all weights trained needs a second copy of the model, which {engine} would not shard; "
            "set model.lora_rank (the model without its adapter is the reference), or leave rollout.beta at 0"
        )


def in_full_precision(accelerator: Accelerator) -> None:
    """Under FSDP with mixed precision: what comes out of the model stays as it was computed, and gradients add up in float32.

    accelerate would round label logits to bfloat16, three digits, before the loss.
    """
    if accelerator.distributed_type is not DistributedType.FSDP:
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise InputError(
            "FSDP version 1 is not supported; set fsdp_version: 2 in accelerate's configuration, as in "
            "recipes/accelerate/fsdp2.yaml"
        )
    policy = plugin.mixed_precision_policy
    if policy is not None and policy.param_dtype not in (None, torch.float32):
        plugin.mixed_precision_policy = replace(policy, output_dtype=None, reduce_dtype=torch.float32)


def place_frozen(accelerator: Accelerator, model: Backbone) -> None:
    """Put a second network, which is not trained, where the trained one is: on each GPU, or split over all as the engine does.

    Once the trained one is prepared. Where weights are split, all processes have to run the same passes of it.
    """
    plugin, kind = accelerator.state.deepspeed_plugin, accelerator.distributed_type
    if kind is DistributedType.FSDP:
        _split_by_fsdp(accelerator, model)
    elif kind is DistributedType.DEEPSPEED and plugin.zero_stage == 3:
        import deepspeed

        config = {key: value for key, value in plugin.deepspeed_config.items() if key not in _OF_TRAINING}
        deepspeed.initialize(model=model, config=config)
    else:
        model.to(accelerator.device)


_OF_TRAINING = ("optimizer", "scheduler", "checkpoint")
"""What DeepSpeed's configuration says of training alone."""


def _split_by_fsdp(accelerator: Accelerator, model: Backbone) -> None:
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    plugin = accelerator.state.fsdp_plugin
    trained = plugin.transformer_cls_names_to_wrap
    plugin.transformer_cls_names_to_wrap = model._no_split_modules or trained
    try:
        fsdp2_prepare_model(accelerator, model)
    finally:
        plugin.transformer_cls_names_to_wrap = trained


@contextmanager
def gradients_go_on(accelerator: Accelerator, model: nn.Module, more: bool) -> Iterator[None]:
    """Backward passes in here add to the gradients; with `more` to come, nothing is reduced and no engine takes a step."""
    if not more:
        yield
        return
    state = accelerator.gradient_state
    before = state.sync_gradients
    state._set_sync_gradients(False)  # DeepSpeed steps in its own backward pass
    try:
        if accelerator.distributed_type is DistributedType.DEEPSPEED:
            yield
        else:
            with accelerator.no_sync(model):
                yield
    finally:
        state._set_sync_gradients(before)


def backward(accelerator: Accelerator, loss: Tensor) -> None:
    """Of a loss that was divided by the accumulation steps already; DeepSpeed would divide it again."""
    deepspeed = accelerator.distributed_type is DistributedType.DEEPSPEED
    accelerator.backward(loss, **({"scale_wrt_gas": False} if deepspeed else {}))


@contextmanager
def mismatches_told() -> Iterator[None]:
    """InputError where a DeepSpeed configuration says something else than the recipe."""
    try:
        yield
    except ValueError as error:
        if "DeepSpeed config values" not in str(error):
            raise
        raise InputError(
            f"the DeepSpeed configuration does not go with the recipe: {error} In accelerate's configuration, "
            "gradient_clipping is such a value"
        ) from error


def save_optimizer_of_shards(accelerator: Accelerator, optimizer: Any, model: nn.Module, folder: str) -> None:
    """The optimizer alone: the weights stand beside it as a reward model, by which a run goes on with any number of processes."""
    from accelerate.utils.fsdp_utils import save_fsdp_optimizer

    save_fsdp_optimizer(accelerator.state.fsdp_plugin, accelerator, optimizer, model, folder)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")
