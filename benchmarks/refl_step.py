"""What a step of reward back-propagation costs: time and peak memory against K, with and without checkpointing.

    python benchmarks/refl_step.py [--json FILE] [--k 1,2,4,8] [--batch 16] [--steps 12] [--generator FOLDER]
        [--student FOLDER] [--guidance 3] [--size PIXELS] [--dtype bfloat16] [--rounds 3]

K denoising steps with a gradient, the decoder and the student; drift and optimizer left out. Every configuration runs in a
process of its own. Peak memory is the GPU's allocator's where there is one, otherwise what the process grew by over the
state before the step (resident set). The JSON file maps k{K}_seconds, k{K}_mib and, checkpointed, k{K}_checkpointed_seconds
and k{K}_checkpointed_mib to numbers. Without --generator it is a random one of the world's size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from memory import peak_mib, resident_mib

from zreward.common.runs import versions
from zreward.generation import Aggregate, SamplingPlan, draw
from zreward.generation.adaptation import Adaptation, load_pipeline
from zreward.generation.judges import load_frozen
from zreward.generation.recipe import GeneratorRecipe
from zreward.world.generator import make_generator

PROMPT = "a large red circle left of a small blue cross"


def measure(options: argparse.Namespace, k: int, checkpointing: bool) -> dict[str, float]:
    """Median seconds and peak MiB of a step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = GeneratorRecipe(
        name=options.generator or "random", dtype=options.dtype, height=options.size, width=options.size,
        guidance=options.guidance, steps=options.steps,
    )  # fmt: skip
    pipeline = load_pipeline(recipe, device) if options.generator else make_generator().to(device)
    adaptation = Adaptation(pipeline, recipe, decay=0.0)
    student = load_frozen(options.student, device)
    prompts, plan, seconds = [PROMPT] * options.batch, SamplingPlan(options.steps, k), []

    def step() -> None:
        seeds = list(range(options.batch))
        drawn = draw(pipeline, prompts, seeds, plan, checkpointing, **recipe.options)
        (-Aggregate()(student(drawn.pixels.float(), prompts)).mean()).backward()
        for weight in adaptation.weights.values():
            weight.grad = None
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():  # everything is loaded and warm before the memory is looked at
        pixels = draw(pipeline, prompts[:1], [0], SamplingPlan(2), **recipe.options).pixels
        student(pixels.float(), prompts[:1])
    before = resident_mib()
    for _ in range(options.rounds):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds), "mib": peak_mib() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--k", default="1,2,4,8")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--generator")
    parser.add_argument("--student", default="world:small")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--size", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        k, checkpointing = options.one.split(",")
        print(json.dumps(measure(options, int(k), checkpointing == "1")))
        return
    result: dict[str, float] = {}
    print("| K | seconds | checkpointed | MiB | checkpointed |\n| --- | --- | --- | --- | --- |")
    for k in map(int, options.k.split(",")):
        row = []
        for checkpointing in (0, 1):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", f"{k},{checkpointing}"]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            row.append(json.loads(output.splitlines()[-1]))
            name = f"k{k}_checkpointed" if checkpointing else f"k{k}"
            result |= {f"{name}_{key}": value for key, value in row[-1].items()}
        plain, less = row
        print(
            f"| {k} | {plain['seconds']:.2f} | {less['seconds']:.2f} | {plain['mib']:.0f} | {less['mib']:.0f} |",
            flush=True,
        )
    if options.json:
        card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        options.json.write_text(json.dumps(result | {"device": card, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
