"""Are the student's distributions calibrated? RISD beside supervised training, raw and recalibrated, in the built-in world.

    python benchmarks/world_calibration.py [--demo runs/demo] [--out runs/world-calibration] [--split test] [--kind temperature]

Run `zreward demo --out runs/demo` first: its student is measured. Beside it are trained, from the same small model on the demo's
training records: `sft` (recipes/world-sft.yaml) and `one rating` (the same on one rater's score of a picture, without smoothing).
Maps are fitted on the demo's dev records and measured on the split's raters; choose options with --split dev, which shows folds
that the maps did not see. `point mass` puts the calibrated student's expected score onto its neighbouring bins. Intervals: 95 %,
over prompts. Writes OUT/calibration-SPLIT.json and .md, one page of plots for each model,
and the plots of docs/guides/trust.md (OUT/plots-SPLIT).
"""

from __future__ import annotations

import argparse
import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zreward.common.files import atomic_path, write_json, write_text
from zreward.common.runs import versions
from zreward.data import Record, load_records, save_records
from zreward.evaluation.calibrating import cross_fitted, fit, recalibrated
from zreward.evaluation.calibration_table import (
    COLUMNS,
    CalibrationItems,
    calibration_rows,
    items_of,
    pair_probabilities,
    together,
)
from zreward.evaluation.intervals import bootstrap, interval_of
from zreward.evaluation.metrics import crps, nll
from zreward.evaluation.prediction import predict, rated_dimensions
from zreward.evaluation.report import plots
from zreward.evaluation.report.evaluation import write_evaluation
from zreward.evaluation.tables import POOLED, format_value
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.training.run import train

RECIPE = Path(__file__).parents[1] / "recipes" / "world-sft.yaml"
TRAINED = {"sft": (), "one rating": ("data.smoothing=0",)}
SHOWN = ("nll", "crps", "wasserstein", "coverage_80", "ece", "spread_srcc", "preference_brier", "preference_ece")
Items = dict[str, CalibrationItems]


def one_rating(records: list[Record]) -> list[Record]:
    """Each picture with the score of one of its raters: the first, second, ... in turn."""
    found = []
    for number, record in enumerate(records):
        scores = {name: record.ratings(name) for name in record.scores if record.ratings(name)}
        found.append(replace(record, scores={name: given[number % len(given)] for name, given in scores.items()}))
    return found


def train_beside(demo: Path, out: Path) -> dict[str, Path]:
    """The supervised models' folders; what is finished is kept."""
    data = {"sft": demo / "data" / "train.parquet", "one rating": out / "one-rating.parquet"}
    if not data["one rating"].exists():
        save_records(one_rating(load_records(data["sft"])), data["one rating"])
    folders = {}
    for name, more in TRAINED.items():
        run = out / name.replace(" ", "-")
        if not (run / "model").exists():
            shutil.rmtree(run, ignore_errors=True)
            options = [f"out={run}", f"data.train={data[name]}", f"data.dev={demo}/data/dev.parquet"]
            train(load_recipe(RECIPE, [*options, "model.name=world:small", *more]))
        folders[name] = run / "model"
    return folders


def point_mass(items: Items, scale: Any) -> Items:
    """Expected scores without a spread."""
    bins = scale.bins.double()
    return {
        name: part._replace(
            probs=torch.stack([scale.soft_target(float(mean)) for mean in part.probs.mean(1) @ bins]).double()[:, None],
            pair_scale=np.ones(len(part.pairs)),
        )
        for name, part in items.items()
    }


def losses(items: Items, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """CRPS and NLL of every item of all dimensions [M], and their prompts."""
    found, prompts = [], []
    for part in items.values():
        probs = part.probs.mean(1).numpy()
        probs = np.maximum(probs / probs.sum(1, keepdims=True), np.finfo(np.float32).tiny)
        pairs = [(p[None], c[None]) for p, c in zip(probs, part.counts, strict=True)]
        found.append([(crps(p / p.sum(), c, bins), nll(p, c)) for p, c in pairs])
        prompts += part.group
    values = np.concatenate([np.array(each) for each in found])
    return values[:, 0], values[:, 1], prompts


def differences(answers: dict[str, Items], bins: np.ndarray, first: str) -> list[dict[str, Any]]:
    """CRPS and NLL of `first` minus those of every other model, over the same draws of prompts."""
    known = {name: losses(items, bins) for name, items in answers.items()}
    rows = []
    for name, other in known.items():
        if name == first:
            continue
        row: dict[str, Any] = {"model": first, "minus": name}
        for key, mine, theirs in zip(("crps", "nll"), known[first][:2], other[:2], strict=True):
            gap = mine - theirs
            estimate = bootstrap(lambda items, _, gap=gap: float(gap[items].mean()), known[first][2])
            row[key], row[f"{key}_interval"] = estimate.value, list(interval_of(estimate.draws))
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="what `zreward demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/world-calibration"))
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--kind", default="temperature", choices=("temperature", "ordinal"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    folders = {"risd": arguments.demo / "models" / "student"} | train_beside(arguments.demo, arguments.out)
    dev, held_out = (load_records(arguments.demo / "data" / f"{split}.parquet") for split in ("dev", arguments.split))
    answers: dict[str, Items] = {}
    maps: dict[str, Any] = {}
    for name, folder in folders.items():
        model = RewardModel.from_pretrained(folder, calibrated=False)
        names, scale = rated_dimensions(model, held_out), model.rubric.scale
        on_dev, on_split = predict(model, dev, names), predict(model, held_out, names)
        fitted = fit(items_of(on_dev, dev), arguments.kind)
        items = items_of(on_split, held_out)
        answers[name] = items
        answers[f"{name}, calibrated"] = (
            cross_fitted(items, arguments.kind)
            if arguments.split == "dev"
            else recalibrated(items, fitted, arguments.kind)
        )
        maps[name] = {dimension: vars(one) for dimension, one in fitted.items()}
        page = arguments.out / f"{name.replace(' ', '-')}-{arguments.split}.html"
        write_evaluation(page, on_split, held_out, "direct", f"{name}: calibration", {"model": name})
    answers["point mass"] = point_mass(answers["risd, calibrated"], scale)
    for name in ("risd", "risd, calibrated"):
        draw(arguments.out / f"plots-{arguments.split}", name, answers[name], scale)
    bins = scale.bins.double().numpy()
    rows = [{"model": name} | row for name, items in answers.items() for row in calibration_rows(items, bins)]
    gaps = differences(answers, bins, "risd, calibrated")
    text = as_markdown(rows, gaps, f"{len(held_out)} pictures, split {arguments.split}, {arguments.kind}")
    file = arguments.out / f"calibration-{arguments.split}"
    write_json(file.with_suffix(".json"), {"rows": rows, "differences": gaps, "maps": maps, "versions": versions()})
    write_text(file.with_suffix(".md"), text)
    print(text)


def draw(folder: Path, name: str, items: Items, scale: Any) -> None:
    """The plots of docs/guides/trust.md, as PNG: all dimensions together."""
    part = together(list(items.values()))
    probs, counts = part.probs.mean(1).numpy(), part.counts
    for kind, picture in (
        ("mean", plots.reliability(name, probs, counts, scale)),
        ("coverage", plots.coverage(name, probs, counts, scale)),
        ("spread", plots.spread(name, probs, counts, scale)),
        ("pairs", plots.pair_reliability(name, pair_probabilities(part), part.votes)),
    ):
        if picture is not None:
            content = base64.b64decode(picture.partition("base64,")[2])
            with atomic_path(folder / f"{kind}-{name.replace(', ', '-')}.png") as file:
                file.write_bytes(content)


def as_markdown(rows: list[dict[str, Any]], gaps: list[dict[str, Any]], about: str) -> str:
    columns = [column for column in COLUMNS if column.key in SHOWN]
    lines = ["| model | " + " | ".join(column.title for column in columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for row in rows:
        if row["dimension"] == POOLED:
            lines.append(f"| {row['model']} | {' | '.join(format_value(row[c.key], c.digits) for c in columns)} |")
    lines += ["", "All dimensions together. The calibrated student minus each other model:", ""]
    for gap in gaps:
        cells = []
        for key in ("crps", "nll"):
            low, high = gap[f"{key}_interval"]
            cells.append(f"{key.upper()} {gap[key]:+.4f} ({low:+.4f} to {high:+.4f})")
        lines.append(f"- {gap['minus']}: {', '.join(cells)}")
    return f"{about}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
