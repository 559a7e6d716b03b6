"""Rows of `gpu.py` that score and differentiate. Those of `BEFORE` can be measured with commit 07f77a1's code as well."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from gpu_model import Bench, measure, parameters_of
from small_models import passes_of
from torch.utils.flop_counter import FlopCounterMode

import zreward
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row

Rows = dict[str, Callable[[Bench], dict[str, Any]]]
"""By name, the most important ones first."""
CHOICES = ("recompute", "keep", "one_by_one")
TODAY = find_spec("zreward.models.kernels") is not None  # not the code of an earlier commit
_TFLOP = 1e12


def model(bench: Bench) -> dict[str, Any]:
    found = parameters_of(bench.model.backbone.base)
    figures: dict[str, Any] = {"parameters": found, "code": zreward.__file__}
    if TODAY:
        from zreward.models.kernels.discovery import find_kernels

        kernels = find_kernels(bench.model.backbone)
        figures["kernels"] = {_label_of(one): one.implementation for one in kernels}
    if bench.device.type == "cuda":
        figures["gib"] = torch.cuda.memory_allocated(bench.device) / 2**30
    return figures


def tokens(bench: Bench) -> dict[str, Any]:
    """That pass the first decoder layer for a picture, padding counted; `first_call` reads the rubric and tries sharing."""
    pictures, prompts, names = bench.pictures(2), bench.prompts(2), bench.model.rubric.dimension_names

    def of(count: int) -> float:
        seen = passes_of(bench.model, lambda: bench.model.score(pictures, prompts, names[:count]))
        return sum(number for number, _ in seen) / len(pictures)

    first, four, one = of(len(names)), of(len(names)), of(1)
    return {"a_picture": four, "one_dimension": one, "first_call": first}


def score(bench: Bench, count: int) -> dict[str, Any]:
    """All dimensions; PIL images to distributions."""
    count = min(count, bench.sizes.most)
    pictures, prompts = bench.pictures(count), bench.prompts(count)
    (cost,) = measure(bench.device, [lambda: bench.model.score(pictures, prompts, batch_size=count)])
    return {"pictures_per_second": count / cost.seconds, **cost.figures()}


def four_over_one(bench: Bench) -> dict[str, Any]:
    """Time of a call with all dimensions over one with the first alone; probabilities of one call against a call each."""
    most, names = bench.sizes.most, bench.model.rubric.dimension_names
    pictures, prompts = bench.pictures(most), bench.prompts(most)
    call = partial(bench.model.score, pictures, prompts, batch_size=most)
    four, one = measure(bench.device, [call, lambda: call(names[:1])])
    few = partial(bench.model.score, pictures[:8], prompts[:8])
    apart = torch.cat([few([name]).probs for name in names], 1)
    return {"ratio": four.seconds / one.seconds, "largest_difference": float((few().probs - apart).abs().max())}


@torch.no_grad()
def bare_forward(bench: Bench) -> dict[str, Any]:
    """The model alone on a batch that is on the device already, as `score` runs it; operations as torch counts matrix products.

    What kernels of other packages compute (linear attention) is not among these.
    """
    from zreward.models.kernels.peak import matrix_peak

    judge, most = bench.model, bench.sizes.most
    pictures, prompts = bench.pictures(most), bench.prompts(most)
    images = [judge.open(picture) for picture in pictures]
    rows = [Row((n,), prompt, name) for n, prompt in enumerate(prompts) for name in judge.rubric.dimension_names]
    inputs = replace(judge.collate(images, rows), share=True).to(bench.device)
    score = partial(judge.score, pictures, prompts, batch_size=most)
    bare, whole = measure(bench.device, [lambda: judge.backbone(inputs), score])
    with FlopCounterMode(display=False) as counter:
        judge.backbone(inputs)
    reached = counter.get_total_flops() / bare.seconds / _TFLOP
    return {
        "pictures_per_second": most / bare.seconds,
        "tflops": reached,
        "share_of_peak": reached / matrix_peak(torch.bfloat16, bench.device),
        "score_over_bare": whole.seconds / bare.seconds,
        **bare.figures(),
    }


@cache
def right_kernels(bench: Bench) -> dict[str, Any]:
    """Verdicts on the model's kernels. From here on, those that are not right are replaced, as before training."""
    from zreward.models.kernels.check import use_right_kernels

    found = use_right_kernels(bench.model.backbone, [torch.bfloat16], bench.device)
    return {f"{_label_of(one.kernel)} ({one.kernel.implementation})": str(one.verdict) for one in found}


def _label_of(kernel: Any) -> str:
    return f"{kernel.layer}.{kernel.name}"


def gradient(bench: Bench, count: int, dimensions: int, memory: str) -> dict[str, Any]:
    """Of the mean score to the pixels; GiB a picture above what is in use before."""
    if TODAY:  # an earlier tree uses what is installed
        right_kernels(bench)
    pixels, prompts = bench.pixels(count), bench.prompts(count)
    names = bench.model.rubric.dimension_names[:dimensions]
    options = {"memory": memory} if "memory" in inspect.signature(RewardModel.forward).parameters else {}
    found: list[torch.Tensor] = []

    def differentiate() -> None:
        found.clear()
        found.extend(torch.autograd.grad(bench.model(pixels, prompts, names, **options).mean.sum(), pixels))

    (cost,) = measure(bench.device, [differentiate])
    if not found[0].isfinite().all():
        raise FloatingPointError("the gradient is not finite")
    figures = {"pictures_per_second": count / cost.seconds, **cost.figures()}
    return figures if cost.added is None else figures | {"gib_a_picture": cost.added / count}


def gradients(dimensions: int, choices: tuple[str, ...]) -> Rows:
    return {
        f"gradient_{dimensions}_dimensions_{count}_pictures_{memory}": partial(
            gradient, count=count, dimensions=dimensions, memory=memory
        )
        for memory in choices
        for count in (1, 2, 4)
    }


SCORING: Rows = {
    "model": model,
    "tokens": tokens,
    "score_32": partial(score, count=32),
    "four_over_one": four_over_one,
    "score_8": partial(score, count=8),
}
KEPT = {**gradients(4, ("keep",)), **gradients(1, ("keep",))}  # an earlier tree keeps everything
