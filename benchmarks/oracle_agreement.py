"""How well the pixel oracle reads rendered scenes, whose truth is known.

    python benchmarks/oracle_agreement.py [--scenes 1000] [--seed 501] [--json FILE]

Prints, per dimension, Spearman's correlation with the true scores, the share of scenes that are read exactly and the mean
absolute error in score points. The JSON file is a flat map {DIMENSION_srcc, DIMENSION_exact, DIMENSION_error: number}.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from zreward.world.grammar import sample_prompt
from zreward.world.oracle import read_picture
from zreward.world.renderer import render
from zreward.world.scenes import DIMENSIONS, sample_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=501)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    scenes = [sample_scene(sample_prompt(rng), rng) for _ in range(arguments.scenes)]
    readings = [read_picture(render(scene), scene.prompt) for scene in tqdm(scenes, desc="reading", unit="scene")]
    found: dict[str, float] = {}
    for name in DIMENSIONS:
        truth = np.array([scene.truth(name) for scene in scenes])
        read = np.array([reading.score(name) for reading in readings])
        found |= {
            f"{name}_srcc": float(spearmanr(truth, read).statistic),
            f"{name}_exact": float(np.mean(truth == read)),
            f"{name}_error": float(np.abs(truth - read).mean()),
        }
        srcc, exact, error = (found[f"{name}_{key}"] for key in ("srcc", "exact", "error"))
        print(f"{name:13} SRCC {srcc:.3f}   exact {exact:.1%}   mean error {error:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
