"""AGIQA-3K by a model of pretrained parts, beside ridge regression on what the same frozen tower makes of the pictures.

    python benchmarks/agiqa3k_pretrained.py ROOT [--out runs/agiqa3k-clip] [--split test | --folds 5] [--reuse] [key=value ...]

ROOT holds data.csv and images/. Split, metrics and training records are those of benchmarks/agiqa3k.py, whose plain CNN and 0.9
M model belong beside this table; with --folds every picture is held out once, in parts that share no prompt and no picture.
Both ridge regressions see the picture only: class token, mean and deviation of the last layer, one of the tower's patches, one
of the pooled tokens that the model is given. Their penalty is chosen by five folds of the training prompts, their spread is
that of their errors there. Intervals: 95 %, over prompts. spread_srcc is the rank correlation of predicted and published
standard deviations; coverage_80 the share of the raters' scores (SYNTHETIC: Gaussians of the published mean and deviation)
inside the central 80 % interval. Writes OUT/results-SPLIT-SEED.json and .md; minutes of the features and of the training apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agiqa3k import DIMENSIONS, means, timed, train_recipe
from scipy.stats import norm
from torch import Tensor
from tqdm import tqdm

from zreward.common.files import write_json, write_text
from zreward.common.runs import versions
from zreward.data import Record, check_disjoint, import_agiqa3k, load_records, save_records, split_by_prompt
from zreward.evaluation.calibration import interval_coverage, spread
from zreward.evaluation.intervals import bootstrap, interval_of
from zreward.evaluation.metrics import hpa, nll, plcc, srcc
from zreward.evaluation.prediction import predict
from zreward.models.image_cache import ImageCache
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import load_model

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "agiqa3k-clip-smollm2.yaml"
PENALTIES = (300, 1000, 3000, 10000, 30000)
FOLDS, MARGIN = 5, 0.5
PEERS = {"ridge on the same tokens": "tokens.npy", "ridge on CLIP": "tower.npy"}  # statistics of every picture, in OUT
METRICS = ("plcc", "srcc", "hpa", "margin_hpa", "nll", "spread_srcc", "coverage_80")


def statistics_of(features_TC: Tensor, width: int) -> Tensor:
    """[3 C]: class token, mean and standard deviation of the other tokens, in the last `width` = C columns."""
    states_TC = features_TC[:, -width:].float()
    return torch.cat([states_TC[0], states_TC[1:].mean(0), states_TC[1:].std(0)])


def ridge(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, penalty: float) -> np.ndarray:
    """Scores [N, D] of x [N, F] by ridge regression on standardised columns."""
    mean, spread, middle = train_x.mean(0), train_x.std(0) + 1e-6, train_y.mean(0)
    a, b = (train_x - mean) / spread, (x - mean) / spread
    return b @ (a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), train_y - middle)) + middle


def fold_of(keys: Sequence[Hashable]) -> np.ndarray:
    """[N]: which of FOLDS parts each picture belongs to; pictures of one key, such as a prompt, belong together."""
    known = sorted(set(keys), key=str)
    dealt = np.random.default_rng(0).permutation(len(known))
    place = {known[place]: number % FOLDS for number, place in enumerate(dealt)}
    return np.array([place[key] for key in keys])


def ridge_scores(train: list[Record], train_x: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, D] with the penalty that is best on folds of the training prompts for each dimension, and the spreads [D]."""
    y = means(train).double().numpy()
    fold = fold_of([record.group_key for record in train])
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


def ridge_answers(
    train: list[Record], train_x: np.ndarray, x: np.ndarray, bins_S: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, D], and distributions [N, D, S] with the spread of the errors."""
    scores, spreads = ridge_scores(train, train_x, x)
    return scores, np.stack([gaussian(scores[:, d], spread, bins_S) for d, spread in enumerate(spreads)], 1)


class Judge:
    """One model's answers on the held-out records: expected scores [N, D] and distributions [N, D, S]."""

    def __init__(
        self, name: str, scores_ND: np.ndarray, probs_NDS: np.ndarray, records: list[Record], scale: Any
    ) -> None:
        self.name, self.scores, self.probs = name, scores_ND, np.maximum(probs_NDS, np.finfo(np.float32).tiny)
        bins = scale.bins.double().numpy()
        self.spread = np.stack([spread(probs_NDS[:, d], bins) for d in range(len(DIMENSIONS))], 1)
        self.published = np.array([[record.stds[name] for name in DIMENSIONS] for record in records])
        self.target = means(records).double().numpy()
        self.group = [record.group_key for record in records]
        self.counts = np.stack([[record.target(name, scale).numpy() for name in DIMENSIONS] for record in records])

    def figure(self, metric: str, d: int, items: np.ndarray, group: Any) -> float:
        pred, target = self.scores[items, d], self.target[items, d]
        if metric == "nll":
            return nll(self.probs[items, d], self.counts[items, d])
        if metric == "coverage_80":
            return interval_coverage(self.probs[items, d], self.counts[items, d], 0.8)
        if metric == "spread_srcc":
            return srcc(self.spread[items, d], self.published[items, d])
        if metric in ("hpa", "margin_hpa"):
            return hpa(pred, target, group, MARGIN if metric == "margin_hpa" else 0.0)
        return (plcc if metric == "plcc" else srcc)(pred, target)

    def estimates(self, d: int) -> dict[str, Any]:
        return {
            metric: bootstrap(lambda items, group, metric=metric: self.figure(metric, d, items, group), self.group)
            for metric in METRICS
        }


def compare(judges: list[Judge]) -> tuple[list[dict[str, Any]], str]:
    """Rows of figures with intervals, the gains of the first judge over each with theirs; and both as Markdown."""
    rows: list[dict[str, Any]] = []
    for d, dimension in enumerate(DIMENSIONS):
        found = {judge.name: judge.estimates(d) for judge in judges}
        first = found[judges[0].name]
        for name, estimates in found.items():
            row: dict[str, Any] = {"model": name, "dimension": dimension}
            for metric, one in estimates.items():
                row[metric], row[f"{metric}_interval"] = one.value, [one.low, one.high]
                row[f"{metric}_gain"] = first[metric].value - one.value
                row[f"{metric}_gain_interval"] = list(interval_of(first[metric].draws - one.draws))
            rows.append(row)
    lines = ["| model | dimension | " + " | ".join(METRICS) + " |", "| --- " * (2 + len(METRICS)) + "|"]
    for row in rows:
        cells = [f"{row[m]:.3f} ({row[f'{m}_interval'][0]:.3f} to {row[f'{m}_interval'][1]:.3f})" for m in METRICS]
        lines.append(f"| {row['model']} | {row['dimension']} | {' | '.join(cells)} |")
    lines += ["", f"Gains of {judges[0].name}:", ""]
    for row in rows:
        if row["model"] != judges[0].name:
            cells = [
                f"{m} {row[f'{m}_gain']:+.3f} ({row[f'{m}_gain_interval'][0]:+.3f} to {row[f'{m}_gain_interval'][1]:+.3f})"
                for m in METRICS
            ]
            lines.append(f"- over {row['model']}, {row['dimension']}: {', '.join(cells)}")
    return rows, "\n".join(lines) + "\n"


@torch.no_grad()
def patches_of(model: RewardModel, record: Record) -> Tensor:
    """[T, C]: the tower's last states of a picture, class token first."""
    pixels, _ = model.layout.patchify(model.open(record.image))
    return model.backbone.vision_tower(pixels.to(model.backbone.base.dtype)).last_hidden_state[0]


def make_features(recipe: Recipe, records: list[Record], trained_on: set[str], out: Path) -> None:
    """Fill the recipe's image cache, with mirror images of what is trained on; OUT/tokens.npy and OUT/tower.npy for ridge."""
    model, tokens, tower = load_model(recipe), [], []
    cache, width = model.image_cache, model.backbone.vision_tower.config.hidden_size
    assert cache is not None and recipe.model.compose.class_token, "as the recipe says"
    for record in tqdm(records, "features", unit=" pictures"):
        tokens.append(statistics_of(cache.features(model, record.image), width).numpy())
        tower.append(statistics_of(patches_of(model, record), width).numpy())
        if recipe.data.augment and str(record.image) in trained_on:
            cache.features(model, record.image, mirrored=True)
    np.save(out / "tokens.npy", np.stack(tokens))
    np.save(out / "tower.npy", np.stack(tower))


@dataclass(frozen=True)
class Part:
    """Records to train on and records that are held out, with the recipe that trains on the former."""

    recipe: Recipe
    train: list[Record]
    held_out: list[Record]


def the_split(arguments: argparse.Namespace, data: Path, options: list[str]) -> list[Part]:
    """The benchmark's own split: its training prompts, and those of `arguments.split`."""
    train, held_out = load_records(data, split="train"), load_records(data, split=arguments.split)
    check_disjoint(train, held_out)
    run = arguments.out / f"run-{arguments.seed}"
    return [Part(load_recipe(RECIPE, [*options, f"out={run}"]), train, held_out)]


def the_folds(arguments: argparse.Namespace, data: Path, options: list[str]) -> list[Part]:
    """Every record held out once; no dev curve, which would look at what is held out."""
    names = [f"fold-{number}" for number in range(arguments.folds)]
    dealt = split_by_prompt(load_records(data), dict.fromkeys(names, 1 / len(names)))
    parts = []
    for name in names:
        train = [replace(record, split="train") for other in names if other != name for record in dealt[other]]
        file = save_records(train, arguments.out / f"{name}.jsonl")
        more = [f"data.train={file}", "data.dev=null", "eval_every=0", f"out={arguments.out}/{name}-{arguments.seed}"]
        parts.append(Part(load_recipe(RECIPE, [*options, *more]), train, dealt[name]))
    return parts


def answers(recipe: Recipe, records: list[Record]) -> np.ndarray:
    """[N, D, S]: what the run's model says."""
    model = RewardModel.from_pretrained(Path(recipe.out) / "model")
    model.backbone.requires_grad_(False)
    model.image_cache = ImageCache(str(recipe.model.image_cache), model)
    return predict(model, records, DIMENSIONS).probs.double().numpy()


def with_other_prompts(records: list[Record]) -> list[Record]:
    """Each picture with the next prompt in alphabetical order: a judge that reads the prompt finds them badly aligned."""
    prompts = sorted({record.prompt for record in records})
    after = dict(zip(prompts, prompts[1:] + prompts[:1], strict=True))
    return [replace(record, prompt=after[record.prompt]) for record in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="AGIQA-3K: data.csv and images/")
    parser.add_argument("overrides", nargs="*", help="recipe key=value, for example model.compose.vision=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("runs/agiqa3k-clip"))
    parser.add_argument("--seed", type=int, default=0, help="of the training; the split stays the same")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="evaluated on; choose options on dev")
    parser.add_argument("--folds", type=int, default=0, help="instead of the split: parts, each held out once")
    parser.add_argument("--reuse", action="store_true", help="evaluate what an earlier command trained")
    arguments = parser.parse_intermixed_args()

    data = import_agiqa3k(arguments.root, arguments.out)
    options = [f"data.train={data}", f"data.dev={data}", f"model.rubric={ROOT}/zreward/rubrics/agiqa3k.yaml"]
    options += [f"model.image_cache={arguments.out / 'features'}", f"seed={arguments.seed}", *arguments.overrides]
    parts = (the_folds if arguments.folds else the_split)(arguments, data, options)
    records = load_records(data)
    trained_on = {str(record.image) for part in parts for record in part.train}
    feature_minutes = timed(
        arguments.out / "feature-minutes.json",
        arguments.reuse,
        lambda: make_features(
            load_recipe(RECIPE, [*options, f"out={arguments.out / 'features-run'}"]), records, trained_on, arguments.out
        ),
    )
    scale = Rubric.from_yaml(ROOT / "zreward" / "rubrics" / "agiqa3k.yaml").scale
    bins = scale.bins.double().numpy()
    features = {name: np.load(arguments.out / file) for name, file in PEERS.items()}
    row_of = {str(record.image): number for number, record in enumerate(records)}
    minutes, probs, others = 0.0, [], []
    ridges: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in PEERS}
    for part in parts:
        run = Path(part.recipe.out)
        minutes += timed(
            run / "minutes.json", arguments.reuse, lambda part=part, run=run: train_recipe(part.recipe, run)
        )
        probs.append(answers(part.recipe, part.held_out))
        others.append(answers(part.recipe, with_other_prompts(part.held_out)))
        held, seen = ([row_of[str(record.image)] for record in side] for side in (part.held_out, part.train))
        for peer, known in features.items():
            ridges[peer].append(ridge_answers(part.train, known[seen], known[held], bins))
    held_out, probs_NDS = [record for part in parts for record in part.held_out], np.concatenate(probs)
    judges = [Judge("CLIP and SmolLM2, SFT", probs_NDS @ bins, probs_NDS, held_out, scale)]
    for peer, found in ridges.items():
        scores, spread_out = (np.concatenate(one) for one in zip(*found, strict=True))
        judges.append(Judge(peer, scores, spread_out, held_out, scale))
    rows, table = compare(judges)
    moved = np.concatenate(others) @ bins
    exchanged = {name: srcc(moved[:, d], judges[0].target[:, d]) for d, name in enumerate(DIMENSIONS)}
    table += (
        "\nSRCC with other prompts: " + ", ".join(f"{name} {value:.3f}" for name, value in exchanged.items()) + "\n"
    )
    prompts = len({record.prompt for record in held_out})
    name = f"{arguments.folds}-folds" if arguments.folds else arguments.split
    about = (
        f"{len(held_out)} pictures of {prompts} held-out prompts ({name}), seed {arguments.seed}; features "
        f"{feature_minutes:.1f} minutes, training {minutes:.1f}, {torch.get_num_threads()} threads"
    )
    file = f"results-{name}-{arguments.seed}"
    write_json(
        arguments.out / f"{file}.json",
        {"about": about, "versions": versions(), "rows": rows, "other_prompts_srcc": exchanged},
    )
    write_text(arguments.out / f"{file}.md", f"{about}\n\n{table}")
    print(f"{about}\n\n{table}")


if __name__ == "__main__":
    main()
