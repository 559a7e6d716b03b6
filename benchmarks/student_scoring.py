"""What scoring costs: four dimensions against one, `score` against the bare model, one token against text, a server, memory.

    python benchmarks/student_scoring.py [--json FILE] [--family qwen3_5,qwen3_vl] [--model 100m] [--batch 4] [--rounds 3]
        [--size 512] [--parts ratios,memory,server,compile] [--peak-tflops T]

Random weights of the real classes; at the default size 256 image tokens and a prompt of 60 words. --model: 100m (about 100 M
parameters, the default), 2b (a few items on a CPU: --batch 2 --rounds 1), 9b (a GPU). Times are the fastest of interleaved
rounds in one process: other programs only ever add to them. The JSON file is a flat map {FAMILY_FIGURE: number}:

    four_over_one         four dimensions in one call, over one dimension
    four_over_separate    the same, over four calls of one dimension each
    score_over_forward    `score` of a list of PIL images, over the bare forward pass of the same prepared tensors
    worst_difference      of probabilities: one call against four separate ones (float32)
    gradient_difference   of the gradient to one picture's pixels, relative: one call against four separate ones
    reasoning_over_one_token, text_over_one_token
                          a picture and dimension after a sampled trace of 64 tokens, or as text that is generated (8 tokens)
                          and parsed, over the one-token answer
    four_traces_over_one  four traces of a question, scores read after them, over one
    items_per_second      pictures, four dimensions each; tflops: 2 * parameters * tokens of that; mfu: over --peak-tflops
    mib                   what `score` adds to the memory at its peak

of `memory` (benchmarks/label_rows.py) label_rows_mib, whole_logits_mib; of `server` (benchmarks/server_load.py)
server_over_offline, server_p50_seconds, server_p99_seconds; of `compile` (torch.compile of the vision tower and the language
model) compiled_over_eager and first_call_seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from label_rows import measure_label_rows
from memory import peak_mib, resident_mib
from PIL import Image
from server_load import measure_server
from torch import Tensor

from zreward.common.runs import versions
from zreward.models.pixels import ResolutionPolicy, to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.models.tokens import to_left
from zreward.world.base_models import world_rubric

WORDS = ("a", "dog", "near", "one", "old", "stone", "bridge", "while", "light", "rain", "falls", "on", "green", "hills")
PARTS = ("ratios", "memory", "server")  # and compile, which is not asked by default: minutes of compiling
SPECS = {
    "100m": ScratchSpec(
        hidden_size=768, intermediate_size=2304, heads=12, layers=10, vision_hidden_size=384,
        vision_intermediate_size=1152, vision_heads=6, vision_layers=6, patch_size=16, merge_size=2, positions=256,
    ),
    "2b": ScratchSpec(
        hidden_size=2048, intermediate_size=6144, heads=16, layers=28, vision_hidden_size=1024,
        vision_intermediate_size=4096, vision_heads=16, vision_layers=24, patch_size=16, merge_size=2, positions=2304,
    ),
    "9b": ScratchSpec(
        hidden_size=4096, intermediate_size=12288, heads=32, layers=36, vision_hidden_size=1152,
        vision_intermediate_size=4304, vision_heads=16, vision_layers=27, patch_size=16, merge_size=2, positions=2304,
    ),
}  # fmt: skip
TEXT_TOKENS = 8


def build(family: str, name: str, size: int) -> RewardModel:
    """On the GPU where there is one, there in bfloat16. Qwen3.5: gated-delta layers of a third of the layers at most."""
    torch.manual_seed(0)
    spec = SPECS[name]
    spec = ScratchSpec(**vars(spec) | {"linear_layers": spec.layers // 3 if family == "qwen3_5" else 0})
    cuda = torch.cuda.is_available()
    policy = ResolutionPolicy(longest_side=size)
    with torch.device("cuda" if cuda else "cpu"):
        torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
        model = make_scratch(family, spec, [" ".join(WORDS)] * 2, world_rubric(), policy, max_trace_tokens=64)
        torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(False)


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each call's fastest round; they take turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    return {name: min(values) for name, values in seconds.items()}


def generate_and_parse(model: RewardModel, pictures: list[Image.Image], prompts: list[str], name: str) -> list[float]:
    """As judges do that answer in text: greedy tokens after the question, and the first label found in them."""
    images = [model.open(picture) for picture in pictures]
    inputs = model.collate(images, [Row((n,), prompt, name) for n, prompt in enumerate(prompts)])
    ids, mask = to_left(inputs.input_ids, inputs.attention_mask, model.encoder.pad_id)
    inputs = replace(inputs, input_ids=ids, attention_mask=mask).to(model.device)
    generated = model.backbone.model.generate(
        input_ids=inputs.input_ids, attention_mask=inputs.attention_mask,
        pixel_values=inputs.patches.to(model.backbone.base.dtype),
        **model.backbone.image_arguments(inputs.input_ids, inputs.grid), max_new_tokens=TEXT_TOKENS,
        min_new_tokens=TEXT_TOKENS, do_sample=False, pad_token_id=model.tokenizer.pad_token_id,
    )  # fmt: skip
    texts = model.tokenizer.batch_decode(generated[:, inputs.input_ids.shape[1] :])
    found = [re.search(r"\d", text) for text in texts]
    return [float(match[0]) if match else float("nan") for match in found]


def items(options: argparse.Namespace) -> tuple[list[Image.Image], list[str]]:
    rng = np.random.default_rng(0)
    shape = (options.size, options.size, 3)
    pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(options.batch)]
    return pictures, [" ".join(rng.choice(WORDS, 60)) for _ in pictures]


@torch.enable_grad()
def gradient_difference(model: RewardModel, picture: Image.Image, prompt: str) -> float:
    """Every dimension weighs differently: the sum of one call, against the sum of separate calls."""
    pixels = to_pixels(picture)[None].to(model.device).requires_grad_()
    names = model.rubric.dimension_names

    def gradient(reward: Tensor) -> Tensor:
        return torch.autograd.grad(reward, pixels)[0]

    weights = torch.arange(1.0, len(names) + 1, device=model.device)
    together = gradient((model(pixels, prompt).mean @ weights).sum())
    apart = sum(gradient(model(pixels, prompt, [n]).mean.sum() * w) for n, w in zip(names, weights, strict=True))
    return ((together - apart).norm() / together.norm()).item()


def measure_compile(model: RewardModel, options: argparse.Namespace) -> dict[str, float]:
    pictures, prompts = items(options)
    calls: dict[str, Callable[[], object]] = {"score": lambda: model.score(pictures, prompts)}
    eager = interleaved(calls, options.rounds)["score"]
    core = model.backbone.base.model
    core.visual.compile()
    core.language_model.compile()
    begin = time.perf_counter()
    calls["score"]()
    first = time.perf_counter() - begin
    return {
        "compiled_over_eager": interleaved(calls, options.rounds)["score"] / eager,
        "first_call_seconds": first,
    }


@torch.no_grad()
def measure(model: RewardModel, options: argparse.Namespace) -> dict[str, float]:
    pictures, prompts = items(options)
    names = model.rubric.dimension_names
    rows = [Row((n,), prompt, name) for n, prompt in enumerate(prompts) for name in names]
    inputs = model.collate([model.open(picture) for picture in pictures], rows)
    prepared = replace(inputs, share=True).to(model.device)
    calls: dict[str, Callable[[], object]] = {
        "four": lambda: model.score(pictures, prompts, batch_size=options.batch),
        "one": lambda: model.score(pictures, prompts, names[:1], batch_size=options.batch),
        "separate": lambda: [model.score(pictures, prompts, [name], batch_size=options.batch) for name in names],
        "forward": lambda: model.backbone(prepared),
        "reasoning": lambda: model.judge(pictures, prompts, dimensions=names[:1], batch_size=options.batch),
        "traces": lambda: model.judge(pictures, prompts, 4, names[:1], batch_size=options.batch),
        "text": lambda: generate_and_parse(model, pictures, prompts, names[0]),
    }
    before = resident_mib()
    calls["four"]()
    used = peak_mib() - before
    seconds = interleaved(calls, options.rounds)
    together = model.score(pictures, prompts).probs
    apart = torch.cat([model.score(pictures, prompts, [name]).probs for name in names], 1)
    parameters = sum(p.numel() for p in model.parameters())
    cut = model.backbone.shared_prefix.cut(model.backbone, prepared)
    assert cut is not None and cut.prefix is not None, "all dimensions share image and prompt"
    tokens = cut.tokens
    tflops = 2 * parameters * tokens / seconds["four"] / 1e12
    return {
        "parameters_millions": parameters / 1e6,
        "prefix_over_suffix": cut.prefix.ids.shape[1] / cut.branches.ids.shape[1],
        "four_over_one": seconds["four"] / seconds["one"],
        "four_over_separate": seconds["four"] / seconds["separate"],
        "score_over_forward": seconds["four"] / seconds["forward"],
        "worst_difference": (together - apart).abs().max().item(),
        "gradient_difference": gradient_difference(model, pictures[0], prompts[0]),
        "one_token_seconds": seconds["one"] / options.batch,
        "reasoning_over_one_token": seconds["reasoning"] / seconds["one"],
        "four_traces_over_one": seconds["traces"] / seconds["reasoning"],
        "text_over_one_token": seconds["text"] / seconds["one"],
        "items_per_second": options.batch / seconds["four"],
        "tflops": tflops,
        "mib": used,
    } | ({"mfu": tflops / options.peak_tflops} if options.peak_tflops else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--family", default="qwen3_5,qwen3_vl")
    parser.add_argument("--model", default="100m", choices=SPECS)
    parser.add_argument("--batch", type=int, default=4, help="pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--peak-tflops", type=float, help="the card's peak for the weights' type, for mfu")
    options = parser.parse_args()
    parts = options.parts.split(",")
    found: dict[str, float] = {}

    def keep(family: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            found[f"{family}_{name}"] = value
            print(f"{family:9} {name:26} {value:.3g}", flush=True)

    if "memory" in parts:
        keep("vocabulary_248320", measure_label_rows())
    for family in options.family.split(","):
        model = build(family, options.model, options.size)
        if "ratios" in parts:
            keep(family, measure(model, options))
        if "server" in parts:
            keep(family, measure_server(model, WORDS))
        if "compile" in parts:
            keep(family, measure_compile(model, options))
    print(versions())
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
