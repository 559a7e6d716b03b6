"""How often the base models' alignment traces say what the picture shows: fresh scenes, whose truth is known.

    python benchmarks/base_traces.py [--scenes 600] [--seed 4242] [--models world:large,world:small]

Prints, per model, the share of traces that are wholly right and the share of their statements that are.
"""

from __future__ import annotations

import argparse
import random

import torch

from zreward.models.pixels import to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.world.explain import explain
from zreward.world.grammar import sample_prompt
from zreward.world.renderer import render
from zreward.world.scenes import Scene, sample_scene
from zreward.world.settings import REASONING_BATCH, TEMPERATURE


@torch.no_grad()
def written(model: RewardModel, scenes: list[Scene]) -> list[str]:
    traces = []
    for start in range(0, len(scenes), REASONING_BATCH):
        chunk = scenes[start : start + REASONING_BATCH]
        rows = [Row((n,), scene.prompt.text, "alignment") for n, scene in enumerate(chunk)]
        traces += model.reason([to_pixels(render(scene)) for scene in chunk], rows, TEMPERATURE)
    return [model.trace_text(trace) for trace in traces]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--models", default="world:large,world:small")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    scenes = [sample_scene(sample_prompt(rng), rng) for _ in range(arguments.scenes)]
    expected = [explain(scene, "alignment").split(" ; ") for scene in scenes]
    for name in arguments.models.split(","):
        torch.manual_seed(arguments.seed)
        found = [text.split(" ; ") for text in written(RewardModel.from_pretrained(name).eval(), scenes)]
        whole = sum(one == truth for one, truth in zip(found, expected, strict=True)) / len(scenes)
        right = sum(part in one for one, truth in zip(found, expected, strict=True) for part in truth)
        print(f"{name}: {whole:.1%} wholly right, {right / sum(map(len, expected)):.1%} of the statements")


if __name__ == "__main__":
    main()
