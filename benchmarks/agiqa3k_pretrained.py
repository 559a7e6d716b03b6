"""AGIQA-3K by a model of pretrained parts, beside ridge regression on what the same frozen tower makes of the pictures.

    python benchmarks/agiqa3k_pretrained.py ROOT [--out runs/agiqa3k-clip] [--split test] [--reuse] [key=value ...]

ROOT holds data.csv and images/. Split, metrics and training records are those of benchmarks/agiqa3k.py, whose plain CNN and 0.9 M
model belong beside this table. Ridge sees the picture only: class token, mean and deviation of the patches' last states; its
penalty is chosen by five folds of the training prompts, its spread is that of its errors there. Intervals: 95 %, over prompts.
Writes OUT/results-SPLIT-SEED.json and .md; minutes of the features and of the training apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agiqa3k import DIMENSIONS, means, timed, train_recipe
from scipy.stats import norm

from zreward.common.files import write_json, write_text
from zreward.common.runs import versions
from zreward.data import Record, check_disjoint, import_agiqa3k, load_records
from zreward.evaluation.intervals import bootstrap, interval_of
from zreward.evaluation.metrics import hpa, nll, plcc, srcc
from zreward.evaluation.prediction import predict
from zreward.models.image_cache import ImageCache
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import load_model

RECIPE = Path(__file__).parents[1] / "recipes" / "agiqa3k-clip-smollm2.yaml"
PENALTIES = (300, 1000, 3000, 10000, 30000)
FOLDS, MARGIN = 5, 0.5
METRICS = ("plcc", "srcc", "hpa", "margin_hpa", "nll")


@torch.no_grad()
def tower_statistics(model: RewardModel, records: list[Record], file: Path) -> np.ndarray:
    """[N, 3 C]: class token, mean and standard deviation over patches, of the tower's last states; kept in `file`."""
    if not file.exists():
        tower, rows = model.backbone.vision_tower, []
        for record in records:
            pixels, _ = model.layout.patchify(model.open(record.image))
            state_TC = tower(pixels.to(model.backbone.base.dtype)).last_hidden_state[0].float()
            rows.append(torch.cat([state_TC[0], state_TC[1:].mean(0), state_TC[1:].std(0)]).numpy())
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(rows))
    return np.load(file)


def ridge(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, penalty: float) -> np.ndarray:
    """Scores [N, D] of x [N, F] by ridge regression on standardised columns."""
    mean, spread, middle = train_x.mean(0), train_x.std(0) + 1e-6, train_y.mean(0)
    a, b = (train_x - mean) / spread, (x - mean) / spread
    return b @ (a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), train_y - middle)) + middle


def ridge_scores(train: list[Record], train_x: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, D] with the penalty that is best on folds of the training prompts for each dimension, and the spreads [D]."""
    y = means(train).double().numpy()
    prompts = sorted({record.group_key for record in train}, key=str)
    place = {key: number % FOLDS for number, key in enumerate(np.random.default_rng(0).permutation(len(prompts)))}
    fold = np.array([place[prompts.index(record.group_key)] for record in train])
    errors = {}
    for penalty in PENALTIES:
        out = np.empty_like(y)
        for k in range(FOLDS):
            out[fold == k] = ridge(train_x[fold != k], y[fold != k], train_x[fold == k], penalty)
        errors[penalty] = ((out - y) ** 2).mean(0)
    best = [min(PENALTIES, key=lambda penalty: errors[penalty][d]) for d in range(y.shape[1])]
    scores = np.stack([ridge(train_x, y, x, penalty)[:, d] for d, penalty in enumerate(best)], 1)
    return scores, np.array([errors[penalty][d] ** 0.5 for d, penalty in enumerate(best)])


def gaussian(scores_N: np.ndarray, spread: float, bins_S: np.ndarray) -> np.ndarray:
    """[N, S]: a Gaussian's share of every bin; the end bins have its tails."""
    edges = (bins_S[1:] + bins_S[:-1]) / 2
    below = norm.cdf((edges[None] - scores_N[:, None]) / spread)
    return np.diff(np.concatenate([np.zeros((len(scores_N), 1)), below, np.ones((len(scores_N), 1))], 1), axis=1)


class Judge:
    """One model's answers on the held-out records: expected scores [N, D] and distributions [N, D, S]."""

    def __init__(
        self, name: str, scores_ND: np.ndarray, probs_NDS: np.ndarray, records: list[Record], scale: Any
    ) -> None:
        self.name, self.scores, self.probs = name, scores_ND, np.maximum(probs_NDS, np.finfo(np.float32).tiny)
        self.target = means(records).double().numpy()
        self.group = [record.group_key for record in records]
        self.counts = np.stack([[record.target(name, scale).numpy() for name in DIMENSIONS] for record in records])

    def figure(self, metric: str, d: int, items: np.ndarray, group: Any) -> float:
        pred, target = self.scores[items, d], self.target[items, d]
        if metric == "nll":
            return nll(self.probs[items, d], self.counts[items, d])
        if metric in ("hpa", "margin_hpa"):
            return hpa(pred, target, group, MARGIN if metric == "margin_hpa" else 0.0)
        return (plcc if metric == "plcc" else srcc)(pred, target)

    def estimates(self, d: int) -> dict[str, Any]:
        return {
            metric: bootstrap(lambda items, group, metric=metric: self.figure(metric, d, items, group), self.group)
            for metric in METRICS
        }


def compare(judges: list[Judge]) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures with intervals, the differences to the last judge with theirs; and both as Markdown."""
    rows: list[dict[str, Any]] = []
    for d, dimension in enumerate(DIMENSIONS):
        found = {judge.name: judge.estimates(d) for judge in judges}
        last = found[judges[-1].name]
        for name, estimates in found.items():
            row: dict[str, Any] = {"model": name, "dimension": dimension}
            for metric, one in estimates.items():
                row[metric], row[f"{metric}_interval"] = one.value, [one.low, one.high]
                row[f"{metric}_gain"] = one.value - last[metric].value
                row[f"{metric}_gain_interval"] = list(interval_of(one.draws - last[metric].draws))
            rows.append(row)
    lines = ["| model | dimension | " + " | ".join(METRICS) + " |", "| --- " * (2 + len(METRICS)) + "|"]
    for row in rows:
        cells = [f"{row[m]:.3f} ({row[f'{m}_interval'][0]:.3f} to {row[f'{m}_interval'][1]:.3f})" for m in METRICS]
        lines.append(f"| {row['model']} | {row['dimension']} | {' | '.join(cells)} |")
    lines += ["", f"Differences to {judges[-1].name}:", ""]
    for row in rows:
        if row["model"] != judges[-1].name:
            cells = [
                f"{m} {row[f'{m}_gain']:+.3f} ({row[f'{m}_gain_interval'][0]:+.3f} to {row[f'{m}_gain_interval'][1]:+.3f})"
                for m in METRICS
            ]
            lines.append(f"- {row['model']}, {row['dimension']}: {', '.join(cells)}")
    return rows, "\n".join(lines) + "\n"


def make_features(recipe: Recipe, records: list[Record], file: Path) -> np.ndarray:
    """Fill the recipe's image cache (mirror images too, where training asks for them); the ridge's features of all records."""
    model = load_model(recipe)
    if model.image_cache is not None:
        for record in records:
            for mirrored in (False, True)[: 1 + (recipe.data.augment and record.split == "train")]:
                model.image_cache.features(model, record.image, mirrored)
    return tower_statistics(model, records, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="AGIQA-3K: data.csv and images/")
    parser.add_argument("overrides", nargs="*", help="recipe key=value, for example model.compose.vision=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("runs/agiqa3k-clip"))
    parser.add_argument("--seed", type=int, default=0, help="of the training; the split stays the same")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="evaluated on; choose options on dev")
    parser.add_argument("--reuse", action="store_true", help="evaluate what an earlier command trained")
    arguments = parser.parse_intermixed_args()

    data = import_agiqa3k(arguments.root, arguments.out)
    run = arguments.out / f"run-{arguments.seed}"
    fixed = [f"data.train={data}", f"data.dev={data}", f"model.rubric={RECIPE.parents[1]}/zreward/rubrics/agiqa3k.yaml"]
    fixed += [f"model.image_cache={arguments.out / 'features'}", f"out={run}", f"seed={arguments.seed}"]
    recipe = load_recipe(RECIPE, [*fixed, *arguments.overrides])
    records, train, held_out = (
        load_records(data),
        load_records(data, split="train"),
        load_records(data, split=arguments.split),
    )
    check_disjoint(train, held_out)
    statistics = arguments.out / "tower.npy"
    feature_minutes = timed(
        arguments.out / "feature-minutes.json",
        arguments.reuse,
        lambda: make_features(
            load_recipe(RECIPE, [*fixed, *arguments.overrides, f"out={arguments.out / 'features-run'}"]),
            records,
            statistics,
        ),
    )
    minutes = timed(run / "minutes.json", arguments.reuse, lambda: train_recipe(recipe, run))
    model = RewardModel.from_pretrained(run / "model")
    model.backbone.requires_grad_(False)
    model.image_cache = ImageCache(str(recipe.model.image_cache), model)
    answers = predict(model, held_out, DIMENSIONS)
    scale, bins = model.rubric.scale, model.rubric.scale.bins.double().numpy()
    features = np.load(statistics)
    row_of = {str(record.image): number for number, record in enumerate(records)}
    x, train_x = (features[[row_of[str(record.image)] for record in part]] for part in (held_out, train))
    scores, spreads = ridge_scores(train, train_x, x)
    by_ridge = np.stack([gaussian(scores[:, d], spreads[d], bins) for d in range(len(DIMENSIONS))], 1)
    probs = answers.probs.double().numpy()
    judges = [
        Judge("CLIP and SmolLM2, SFT", probs @ bins, probs, held_out, scale),
        Judge("ridge on CLIP", scores, by_ridge, held_out, scale),
    ]
    rows, table = compare(judges)
    prompts = len({record.prompt for record in held_out})
    about = (
        f"{len(held_out)} pictures of {prompts} held-out prompts ({arguments.split} split), seed {arguments.seed}; features "
        f"{feature_minutes:.1f} minutes, training {minutes:.1f}, {torch.get_num_threads()} threads"
    )
    name = f"results-{arguments.split}-{arguments.seed}"
    write_json(arguments.out / f"{name}.json", {"about": about, "versions": versions(), "rows": rows})
    write_text(arguments.out / f"{name}.md", f"{about}\n\n{table}")
    print(f"{about}\n\n{table}")


if __name__ == "__main__":
    main()
