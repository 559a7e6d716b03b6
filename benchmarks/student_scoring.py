"""What scoring costs: four dimensions against one, scoring against the bare model, label rows against whole logits.

    python benchmarks/student_scoring.py [--json FILE] [--family qwen3_5,qwen3_vl] [--batch 8] [--rounds 5] [--size 512]

Models of about 100 M parameters with random weights of the real classes, 256 image tokens at the default size, a prompt of 60
words, the default four dimensions. All times of a family are medians of interleaved rounds in one process. The JSON file is a
flat map {FAMILY_FIGURE: number}:

    four_over_one         four dimensions in one call, over one dimension
    four_over_separate    the same, over four calls of one dimension each
    score_over_forward    `score` of a list of PIL images, over the bare forward pass of the same prepared tensors
    worst_difference      of probabilities: one call against four separate ones (float32)
    one_token_seconds     a picture and dimension scored directly; reasoning_seconds: the same after a sampled trace of 64 tokens
    items_per_second      pictures, four dimensions each
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel, Row
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.models.shared_prefix import ask, split_questions
from zreward.runs import versions
from zreward.world.base_models import world_rubric

WORDS = ("a", "dog", "near", "one", "old", "stone", "bridge", "while", "light", "rain", "falls", "on", "green", "hills")
SPEC = ScratchSpec(
    hidden_size=768, intermediate_size=2304, heads=12, layers=10, vision_hidden_size=384, vision_intermediate_size=1152,
    vision_heads=6, vision_layers=6, patch_size=16, merge_size=2, positions=256,
)  # fmt: skip


def build(family: str, size: int) -> RewardModel:
    """One gated-delta layer in three for Qwen3.5, as far as its reference code can be waited for."""
    torch.manual_seed(0)
    spec = ScratchSpec(**vars(SPEC) | {"linear_layers": 3 if family == "qwen3_5" else 0})
    policy = ResolutionPolicy(longest_side=size)
    model = make_scratch(family, spec, [" ".join(WORDS)] * 2, world_rubric(), policy, max_trace_tokens=64)
    return model.eval().requires_grad_(False)


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.no_grad()
def measure(family: str, options: argparse.Namespace) -> dict[str, float]:
    model = build(family, options.size).to("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)
    shape = (options.size, options.size, 3)
    pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(options.batch)]
    prompts = [" ".join(rng.choice(WORDS, 60)) for _ in pictures]
    names = model.rubric.dimension_names
    rows = [Row(n, prompt, name) for n, prompt in enumerate(prompts) for name in names]
    inputs = model.collate([model.open(picture) for picture in pictures], rows)
    prepared = split_questions(inputs, len(names), model.encoder.image_token_id, 0)
    assert prepared is not None
    prepared = prepared.to(model.device)
    calls: dict[str, Callable[[], object]] = {
        "four": lambda: model.score(pictures, prompts, batch_size=options.batch),
        "one": lambda: model.score(pictures, prompts, names[:1], batch_size=options.batch),
        "separate": lambda: [model.score(pictures, prompts, [name], batch_size=options.batch) for name in names],
        "forward": lambda: ask(model.backbone, prepared),
        "reasoning": lambda: model.judge(pictures, prompts, dimensions=names[:1], batch_size=options.batch),
    }
    seconds = interleaved(calls, options.rounds)
    together = model.score(pictures, prompts).probs
    apart = torch.cat([model.score(pictures, prompts, [name]).probs for name in names], 1)
    return {
        "parameters_millions": sum(p.numel() for p in model.parameters()) / 1e6,
        "prefix_over_suffix": prepared.prefix.input_ids.shape[1] / prepared.suffix_ids.shape[1],
        "four_over_one": seconds["four"] / seconds["one"],
        "four_over_separate": seconds["four"] / seconds["separate"],
        "score_over_forward": seconds["four"] / seconds["forward"],
        "worst_difference": (together - apart).abs().max().item(),
        "one_token_seconds": seconds["one"] / options.batch,
        "reasoning_seconds": seconds["reasoning"] / options.batch,
        "reasoning_over_one_token": seconds["reasoning"] / seconds["one"],
        "items_per_second": options.batch / seconds["four"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--family", default="qwen3_5,qwen3_vl")
    parser.add_argument("--batch", type=int, default=8, help="pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    options = parser.parse_args()
    found = {}
    for family in options.family.split(","):
        for name, value in measure(family, options).items():
            found[f"{family}_{name}"] = value
            print(f"{family:9} {name:26} {value:.3g}", flush=True)
    print(versions())
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
