"""Sampling a step's traces: vLLM against generate, in one process, on the same tiny model.

    python benchmarks/rollout_engines.py [--sequences 32] [--tokens 40] [--rounds 5]

Needs vLLM (`make test-vllm` makes an environment with it: .venv-vllm/bin/python). Random weights of the real class, float32,
pictures of 96 pixels, groups of four. Prints tokens per CPU second of each, from the fastest of interleaved rounds, and what a
copy of the weights costs (`sync`: all of them through a folder, and the check). On a CPU the model is so small that the
engine's own work is most of it: it says nothing about a GPU.
"""

from __future__ import annotations

import argparse

import torch
from timing import interleaved

from zreward.models.rows import Row
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.sampling.options import VllmOptions
from zreward.sampling.sampler import EngineSampler

GROUP = 4


def main(sequences: int, tokens: int, rounds: int) -> None:
    torch.manual_seed(0)
    prompts = [f"a red circle above {n} green squares" for n in range(sequences // GROUP)]
    model = make_scratch("qwen3_vl", ScratchSpec(), prompts, Rubric.default(), max_trace_tokens=tokens).eval()
    images = [model.open(torch.rand(3, 96, 96)) for _ in prompts]
    name = model.rubric.dimension_names[0]
    rows = [Row((i,), prompt, name) for i, prompt in enumerate(prompts) for _ in range(GROUP)]
    options = VllmOptions(max_length=1024, max_sequences=sequences, cache_gib=0.5)
    sampler = EngineSampler(model, options, (images[:2], [rows[0], rows[GROUP]]))
    seeds = list(range(len(rows)))
    made = {
        "generate": sum(map(len, model.reason(images, rows, 1.0, seeds))),
        "vllm": sum(len(one.trace) for one in sampler.reason(images, rows, 1.0, seeds)),
    }
    calls = {
        "generate": lambda: model.reason(images, rows, 1.0, seeds),
        "vllm": lambda: sampler.reason(images, rows, 1.0, seeds),
        "sync": sampler.sync,
    }
    seconds = interleaved(calls, rounds)
    print(f"{len(rows)} sequences, at most {tokens} tokens each, {torch.get_num_threads()} thread(s)\n")
    print("| engine | tokens | tokens per CPU second |\n| --- | --- | --- |")
    for engine, count in made.items():
        print(f"| {engine} | {count} | {count / seconds[engine]:.0f} |")
    print(f"\nbringing all weights over, and checking them: {seconds['sync'] / seconds['vllm']:.2f} of a vLLM roll-out")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("sequences", 32), ("tokens", 40), ("rounds", 5)):
        parser.add_argument(f"--{option}", type=int, default=default)
    arguments = parser.parse_args()
    main(arguments.sequences, arguments.tokens, arguments.rounds)
