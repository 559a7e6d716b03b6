"""Does a student that learns the mean of K = 4 traces' distributions judge better than one that learns a single trace's?

    python benchmarks/mixture_targets.py [--demo runs/demo] [--out runs/mixture] [--seeds 2] [--split test] [--json FILE]

Run `zreward demo --out runs/demo` first. Its teacher labels its pool with four traces a question; then the small model is trained
by recipes/world-risd.yaml on the first trace alone and on all four: the same pictures, steps and seeds. CRPS, NLL and HPA of both
on the split's raters, all dimensions together, and K = 4 minus K = 1: each picture's difference is averaged over the seeds, 95 %
intervals over prompts. What is done already is kept.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from world_calibration import losses

from zreward.common.files import write_json
from zreward.common.runs import versions
from zreward.data import Record, load_records
from zreward.evaluation.calibration_table import items_of
from zreward.evaluation.coupling_table import counts_by_prompt
from zreward.evaluation.intervals import bootstrap
from zreward.evaluation.prediction import Predictions, predict
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world.settings import REASONING_BATCH, TEMPERATURE

RECIPE = Path(__file__).parents[1] / "recipes" / "world-risd.yaml"
TRACES = (1, 4)


def labelled(demo: Path, out: Path) -> Path:
    """The pool's targets, with all of each question's traces."""
    folder = out / "targets"
    teacher = demo / "models" / "teacher"
    options = LabelOptions(traces=max(TRACES), temperature=TEMPERATURE, batch_size=REASONING_BATCH)
    return label(
        RewardModel.from_pretrained(teacher),
        str(teacher),
        load_records(demo / "data" / "pool.parquet"),
        folder,
        options,
    )


def trained(demo: Path, out: Path, targets: Path, traces: int, seed: int) -> Path:
    """The student's folder; a run that was cut off goes on."""
    run = out / f"risd-{traces}-seed-{seed}"
    if not (run / "model" / "zreward.json").exists():
        data = {"train": demo / "data" / "pool.parquet", "dev": demo / "data" / "dev.parquet", "targets": targets}
        chosen = [f"data.{key}={path}" for key, path in data.items()]
        chosen += [f"data.target_traces={traces}", f"seed={seed}", f"out={run}", "eval_every=0"]
        train(load_recipe(RECIPE, chosen), resume=(run / "recipe.yaml").exists())
    return run / "model"


def pairs_of(predictions: Predictions, records: list[Record]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pairs ordered as people do and all pairs of each prompt [P], over the dimensions, and the prompts."""
    names = predictions.dimensions
    rated = [(n, name) for n, record in enumerate(records) for name in names if record.ratings(name)]
    said = np.array([predictions.mean[n, names.index(name)].item() for n, name in rated])
    return counts_by_prompt(rated, said, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="what `zreward demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/mixture"))
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    targets = labelled(arguments.demo, arguments.out)
    records = load_records(arguments.demo / "data" / f"{arguments.split}.parquet")
    told: dict[str, dict[str, Any]] = {}
    crps_of, nll_of, right_of = ({traces: [] for traces in TRACES} for _ in range(3))
    for traces, seed in itertools.product(TRACES, range(arguments.seeds)):
        model = RewardModel.from_pretrained(trained(arguments.demo, arguments.out, targets, traces, seed))
        predictions = predict(model, records)
        crps, nll, items_prompts = losses(items_of(predictions, records), predictions.bins.double().numpy())
        right, pairs, prompts = pairs_of(predictions, records)
        for kept, value in ((crps_of, crps), (nll_of, nll), (right_of, right)):
            kept[traces].append(value)
        told[f"K = {traces}, seed {seed}"] = {"crps": crps.mean(), "nll": nll.mean(), "hpa": right.sum() / pairs.sum()}
    gaps = {
        name: np.mean(kept[4], axis=0) - np.mean(kept[1], axis=0)
        for name, kept in (("crps", crps_of), ("nll", nll_of), ("hpa", right_of))
    }
    differences = {
        name: bootstrap(lambda items, _, gap=gaps[name]: float(gap[items].mean()), items_prompts)[:3]
        for name in ("crps", "nll")
    }
    differences["hpa"] = bootstrap(lambda chosen, _: float(gaps["hpa"][chosen].sum() / pairs[chosen].sum()), prompts)[
        :3
    ]
    for name, row in told.items():
        print(f"{name}: " + ", ".join(f"{key.upper()} {value:.4f}" for key, value in row.items()))
    for name, (value, low, high) in differences.items():
        print(f"{name.upper()} of K = 4 minus K = 1: {value:+.4f} ({low:+.4f} to {high:+.4f})")
    if arguments.json:
        write_json(arguments.json, {"models": told, "differences": differences, "versions": versions()})


if __name__ == "__main__":
    main()
