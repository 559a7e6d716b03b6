"""What the shipped rubric costs: four dimensions over one, what a GDSO update reads, what a gradient keeps, opening pictures.

    python benchmarks/cost.py [--family qwen3_5,qwen3_vl,llava] [--image-tokens 256] [--rounds 3] [--json FILE]
        [--parts scoring,gradient,updates,opening]

Random weights of the real classes, about 20 M parameters, one thread, prompts of 60 words, the default rubric and prompt forms.
Times are CPU seconds of this process, the fastest of interleaved rounds. The JSON file is a flat map {FAMILY_FIGURE: number}:

    four_over_one          four dimensions in one call over one dimension
    whole_over_four        the same four with every row read whole (the rubric too), over the call that shares
    tokens_a_dimension     tokens that a further dimension adds to a picture, counted at the first decoder layer
    opening_tokens         system text and rubric, which are read once and kept
    old_forms_*            the first and third with the prompt forms of version 0.1, whose questions hold the anchors
    old_forms_over_new     time of four dimensions with those forms, over the default ones
    update_tokens          at the first decoder layer in the update of one GDSO step: one pair, G = 8, traces of 64 tokens
    update_tokens_whole    the same with every row read whole
    update_over_whole      its time, forward and backward
    risd_over_sft          an update on four dimensions of a picture over one on one dimension
    kept_over_recomputed   bytes that autograd keeps of one picture's gradient over four dimensions: everything, over blocks'
                           inputs (whole_kept_over_recomputed: against every row read whole)
    recomputed_over_kept   time of that gradient

and what it costs to open pictures and to bring them to a GPU (benchmarks/feeding.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from feeding import feeding
from PIL import Image
from small_models import build, passes_of, pictures_and_prompts
from timing import interleaved
from torch.autograd.graph import saved_tensors_hooks

from zreward.models.opening import Opening
from zreward.models.pixels import to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.models.shared_prefix import SharedPrefix
from zreward.prompting import PromptForms

GROUP, TRACE_TOKENS = 8, 64


@contextmanager
def rows_read_whole() -> Iterator[None]:
    cut = SharedPrefix.cut
    SharedPrefix.cut = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        SharedPrefix.cut = cut  # type: ignore[method-assign]


def whole(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with rows_read_whole():
            return call()

    return run


def tokens_of(model: RewardModel, call: Callable[[], object]) -> int:
    """Tokens, padding counted, that pass the first decoder layer."""
    return sum(tokens for tokens, _ in passes_of(model, call))


def kept_bytes(call: Callable[[], object]) -> int:
    """Of all distinct tensors that autograd saves, but for the weights."""
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_leaf:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself would keep the node that made it

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()  # noqa: F841  # alive while it is counted
    return sum(seen.values())


def measure(family: str, options: argparse.Namespace) -> dict[str, float]:
    model, side = build(family, options.image_tokens)
    pictures, prompts = pictures_and_prompts(side)
    figures: dict[str, float] = {}
    if "scoring" in options.parts:
        old, _ = build(family, options.image_tokens, PromptForms.from_dict({}))
        figures |= _scoring(model, old, pictures, prompts, options.rounds)
    if "gradient" in options.parts:
        figures |= _gradient(model, pictures[0], prompts[0], options.rounds)
    if "updates" in options.parts:
        figures |= _updates(model, pictures, prompts, options.rounds)
    return figures


def _scoring(
    model: RewardModel, old: RewardModel, pictures: list[Image.Image], prompts: list[str], rounds: int
) -> dict[str, float]:
    dimensions = model.rubric.dimension_names

    def score(model: RewardModel, dimensions: tuple[str, ...]) -> Callable[[], object]:
        return lambda: model.score(pictures, prompts, dimensions)

    def tokens_a_dimension(model: RewardModel) -> float:
        more = tokens_of(model, score(model, dimensions)) - tokens_of(model, score(model, dimensions[:1]))
        return more / len(pictures) / (len(dimensions) - 1)

    four, one = score(model, dimensions), score(model, dimensions[:1])
    old_four, old_one = score(old, dimensions), score(old, dimensions[:1])
    four(), old_four()  # the self-checks are over
    calls = {"four": four, "one": one, "whole": whole(four), "old four": old_four, "old one": old_one}
    seconds = interleaved(calls, rounds)
    a_dimension = tokens_a_dimension(model)
    model.backbone.shared_prefix.opening = Opening()  # nothing is kept
    opening = tokens_of(model, four) - tokens_of(model, four)
    return {
        "four_over_one": seconds["four"] / seconds["one"],
        "whole_over_four": seconds["whole"] / seconds["four"],
        "tokens_a_dimension": a_dimension,
        "opening_tokens": opening,
        "old_forms_four_over_one": seconds["old four"] / seconds["old one"],
        "old_forms_tokens_a_dimension": tokens_a_dimension(old),
        "old_forms_over_new": seconds["old four"] / seconds["four"],
    }


def _gradient(model: RewardModel, picture: Image.Image, prompt: str, rounds: int) -> dict[str, float]:
    pixels = to_pixels(picture)[None].requires_grad_()

    def reward(memory: str) -> torch.Tensor:
        return model(pixels, prompt, memory=memory).mean.sum()

    kept, recomputed = kept_bytes(lambda: reward("keep")), kept_bytes(lambda: reward("recompute"))
    kept_whole = kept_bytes(whole(lambda: reward("keep")))
    seconds = interleaved(
        {how: lambda how=how: torch.autograd.grad(reward(how), pixels) for how in ("keep", "recompute")}, rounds
    )
    return {
        "kept_over_recomputed": kept / recomputed,
        "whole_kept_over_recomputed": kept_whole / recomputed,
        "recomputed_over_kept": seconds["recompute"] / seconds["keep"],
    }


def _updates(model: RewardModel, pictures: list[Image.Image], prompts: list[str], rounds: int) -> dict[str, float]:
    """What trainers pass: forward and backward of a batch, all weights trained."""
    images, names = [model.open(picture) for picture in pictures], model.rubric.dimension_names
    model.train().requires_grad_(True)
    banned = {*model.encoder.trace_ban.tolist(), *model.encoder.stop_ids}
    allowed = [token for token in range(len(model.tokenizer)) if token not in banned]
    rng = np.random.default_rng(0)

    def rollout(n: int) -> Row:
        return Row((n,), prompts[0], names[0], Trace(tuple(rng.choice(allowed, TRACE_TOKENS).tolist()), truncated=True))

    gdso = [rollout(n) for n in range(2) for _ in range(GROUP)]
    risd = [Row((n,), prompt, name) for n, prompt in enumerate(prompts) for name in names]
    sft = [Row((n,), prompt, names[0]) for n, prompt in enumerate(prompts)]

    def update(rows: list[Row]) -> Callable[[], object]:
        inputs = replace(model.collate(images, rows), share=True)

        def run() -> None:
            model.zero_grad()
            output = model.backbone(inputs)
            loss = output.score_logits.log_softmax(-1)[:, 0].mean()
            if output.trace_log_probs is not None:
                loss = loss + output.trace_log_probs.mean()
            loss.backward()

        return run

    calls = {"gdso": update(gdso), "gdso whole": whole(update(gdso)), "risd": update(risd), "sft": update(sft)}
    seconds = interleaved({name: calls[name] for name in ("gdso", "gdso whole")}, 1)
    seconds |= interleaved({name: calls[name] for name in ("risd", "sft")}, rounds)
    return {
        "update_tokens": tokens_of(model, calls["gdso"]),
        "update_tokens_whole": tokens_of(model, calls["gdso whole"]),
        "update_over_whole": seconds["gdso"] / seconds["gdso whole"],
        "risd_over_sft": seconds["risd"] / seconds["sft"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="qwen3_5,qwen3_vl,llava")
    parser.add_argument("--image-tokens", type=int, default=256, help="a square number")
    parser.add_argument("--parts", default="scoring,gradient,updates,opening")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for family in options.family.split(","):
        for name, value in measure(family, options).items():
            figures[f"{family}_{name}"] = value
            print(f"{family:10} {name:28} {value:,.3f}", flush=True)
    for name, value in (feeding(3 * options.rounds) if "opening" in options.parts else {}).items():
        figures[name] = value
        print(f"{name:39} {value:,.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
