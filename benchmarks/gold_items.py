"""How many gold items it takes to find a careless annotator.

    python benchmarks/gold_items.py [--panels 2000] [--threshold 0.7]

Panels of the built-in world (eight careful raters and one who answers 60 % without looking) rate gold items drawn from the
truths of 400 try-out pictures. Prints, by the number of gold items, how often the careless one reaches the threshold and how
often a careful one misses it.
"""

from __future__ import annotations

import argparse
import random

import numpy as np

from zreward.world.raters import audit, make_panel
from zreward.world.try_out import pictures as from_world

COUNTS = (10, 20, 40, 80, 160)


def measure(truths: list[float], count: int, panels: int, threshold: float) -> tuple[float, float]:
    """(share of careless raters who pass, share of careful ones who do not)"""
    passed = []
    for seed in range(panels):
        rng = random.Random(f"gold {seed}")
        panel = make_panel(rng)
        found = audit(panel, rng.sample(truths, count), rng)
        passed.append([found[rater.id] >= threshold for rater in panel])
    shares = np.mean(passed, axis=0)
    return float(shares[-1]), float(1 - shares[:-1].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", type=int, default=2000)
    parser.add_argument("--threshold", type=float, default=0.7)
    options = parser.parse_args()
    truths = [picture.truth["alignment"] for picture in from_world(100)]
    print(f"{'gold items':>10} {'careless passes':>16} {'careful misses':>16}")
    for count in COUNTS:
        careless, careful = measure(truths, count, options.panels, options.threshold)
        print(f"{count:10} {careless:16.3f} {careful:16.3f}")


if __name__ == "__main__":
    main()
