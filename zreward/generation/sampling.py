"""Pictures from a diffusers pipeline, with a gradient over the last denoising steps.

The pipeline's own `__call__` runs, only without its `no_grad`: how prompts are encoded, latents prepared, guidance applied
and pictures decoded stays diffusers' affair, whatever the family (Stable Diffusion 1-3, XL, FLUX, Z-Image). What we steer
is the scheduler's step: it knows when the gradient begins and when the picture is taken.

    x_T ... x_{K+1}   no gradient
    x_K ... x_1       gradient (K = 1 and a random stop: ReFL; K steps to the end: DRaFT-K; larger K: the paper's earlier steps)
    picture           decode(x_0), or of the clean latents predicted where the plan stops early
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zreward.common.errors import InputError


@dataclass(frozen=True)
class SamplingPlan:
    """How many denoising steps run, and over which of them a gradient is kept."""

    steps: int  # of the schedule
    gradient_steps: int = 0  # K: the last of the steps that are run; 0: no gradient at all
    skipped: int = (
        0  # steps left out at the end: the picture is decoded from the clean latents predicted by the last one
    )

    def __post_init__(self) -> None:
        run = self.steps - self.skipped
        if self.steps < 1 or self.skipped < 0 or run < 1 or not 0 <= self.gradient_steps <= run:
            raise InputError(
                f"sampling plan: {self.steps} steps, {self.skipped} skipped, gradient over {self.gradient_steps}; "
                "expected at least one step that runs, and no more gradient steps than those"
            )


Walk = SamplingPlan  # its name in version 0.1


@dataclass
class Drawn:
    """Pictures, and what the denoiser was asked and answered in the steps with a gradient."""

    pixels: Tensor  # (N, 3, H, W) in [0, 1]
    calls: list[tuple[tuple, dict[str, Any], Any]] = field(default_factory=list)  # detached inputs, live output


def denoiser_of(pipeline: Any) -> nn.Module:
    """The network that is trained: `unet` or `transformer`. InputError where a pipeline lacks a part that is needed."""
    for name in ("scheduler", "vae"):
        if getattr(pipeline, name, None) is None:
            raise InputError(f"{type(pipeline).__name__} has no {name}; expected a latent text-to-image pipeline")
    for name in ("unet", "transformer"):
        if isinstance(getattr(pipeline, name, None), nn.Module):
            return getattr(pipeline, name)
    raise InputError(f"{type(pipeline).__name__} has neither a unet nor a transformer; there is nothing to train")


def draw(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    plan: SamplingPlan,
    checkpointing: bool = False,
    record: bool = False,
    **options: Any,
) -> Drawn:
    """Draw one picture per prompt and seed; differentiable to the denoiser if the plan has gradient steps.

    Args:
        pipeline: a diffusers text-to-image pipeline.
        prompts: N texts.
        seeds: N seeds, one per prompt.
        plan: the denoising steps, and which of them keep a gradient.
        checkpointing: recompute in the backward pass instead of keeping activations: every block of the denoiser and of the
            decoder, and with several gradient steps each of these too, so that one block's activations are there at a time.
        record: also keep what the denoiser was asked and answered in steps without a gradient.
        **options: for the pipeline's `__call__`: guidance_scale, height, width, ...

    Returns:
        Pictures (N, 3, H, W) in [0, 1], and the denoiser's inputs and outputs in the gradient steps (`record`: in all).

    Raises:
        InputError: unequal numbers of prompts and seeds, a pipeline without a needed part, a scheduler that calls the
            denoiser more than once a step.
    """
    denoiser = denoiser_of(pipeline)
    if len(prompts) != len(seeds) or not prompts:
        raise InputError(
            f"draw: {len(prompts)} prompts and {len(seeds)} seeds; expected one seed per prompt, at least one"
        )
    if getattr(pipeline.scheduler, "order", 1) != 1:
        raise InputError(
            f"scheduler {type(pipeline.scheduler).__name__} takes {pipeline.scheduler.order} predictions a step; "
            "expected a first-order one such as DDIM, Euler or FlowMatchEuler"
        )
    call = getattr(type(pipeline).__call__, "__wrapped__", None)
    if call is None:
        raise InputError(f"{type(pipeline).__name__}.__call__ has no undecorated form; its gradient cannot be had")
    generators = [torch.Generator(pipeline.device).manual_seed(int(seed)) for seed in seeds]
    pipeline.set_progress_bar_config(disable=True)
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(plan.gradient_steps == plan.steps - plan.skipped))
        calls = stack.enter_context(_recorded(denoiser, record))
        stack.enter_context(_steered(pipeline, plan))
        if checkpointing:
            stack.enter_context(_checkpointed(denoiser, "forward", whole=plan.gradient_steps > 1))
            stack.enter_context(_checkpointed(pipeline.vae, "decode", whole=False))
        result = call(
            pipeline,
            prompt=list(prompts),
            num_inference_steps=plan.steps,
            generator=generators,
            output_type="pt",
            **options,
        )
    return Drawn(result.images.clamp(0, 1), calls)


@contextmanager
def _steered(pipeline: Any, plan: SamplingPlan) -> Iterator[None]:
    """The scheduler's step switches the gradient on in time, and ends sampling early where the plan says so."""
    scheduler, done = pipeline.scheduler, 0
    original, last = scheduler.step, plan.steps - plan.skipped

    @functools.wraps(original)
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        nonlocal done
        done += 1
        if done == last and plan.skipped:
            pipeline._interrupt = True
            return (_predicted_clean(scheduler, original, model_output, timestep, sample, *args, **kwargs),)
        latents = original(model_output, timestep, sample, *args, **kwargs)[0]
        if plan.gradient_steps and done == last - plan.gradient_steps:
            torch.set_grad_enabled(True)
            latents = latents.detach()
        return (latents,)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
    if done != last:
        raise InputError(f"{type(scheduler).__name__} took {done} steps, expected {last}; choose another scheduler")


def _predicted_clean(
    scheduler: Any, step: Any, model_output: Tensor, timestep: Any, sample: Tensor, *args, **kwargs
) -> Tensor:
    """The clean latents that this step's prediction stands for."""
    if "FlowMatch" in type(scheduler).__name__:
        index = scheduler.step_index
        sigma = scheduler.sigmas[scheduler.index_for_timestep(timestep) if index is None else index]
        return (sample.float() - sigma.to(sample.device) * model_output.float()).to(sample.dtype)
    result = step(model_output, timestep, sample, *args, **kwargs | {"return_dict": True})
    clean = getattr(result, "pred_original_sample", None)
    if clean is None:
        raise InputError(
            f"{type(scheduler).__name__} does not expose pred_original_sample; set gradient.skipped to [0, 0]"
        )
    return clean


@contextmanager
def _recorded(denoiser: nn.Module, always: bool) -> Iterator[list]:
    """What goes into and comes out of the denoiser while a gradient is kept, or always."""
    calls: list[tuple[tuple, dict[str, Any], Any]] = []

    def keep(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if always or torch.is_grad_enabled():
            calls.append((_detached(args), _detached(kwargs), output))

    handle = denoiser.register_forward_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@contextmanager
def _checkpointed(module: Any, method: str, whole: bool) -> Iterator[None]:
    """Block by block, as diffusers does it. `whole`: also each call, of which then only the input is kept."""
    original, by_block = getattr(module, method), getattr(module, "_supports_gradient_checkpointing", False)

    def run(*args: Any, **kwargs: Any) -> Any:
        """Whenever it is called, also in the backward pass: the second time must do what the first one did."""
        with _block_by_block(module) if by_block else nullcontext():
            return original(*args, **kwargs)

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*args, **kwargs)
        if by_block and not whole:
            return run(*args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, **kwargs)

    setattr(module, method, recomputed)
    try:
        yield
    finally:
        delattr(module, method)


@contextmanager
def _block_by_block(module: Any) -> Iterator[None]:
    before = module.is_gradient_checkpointing
    module.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            module.disable_gradient_checkpointing()


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_detached(item) for item in value)
    return value
