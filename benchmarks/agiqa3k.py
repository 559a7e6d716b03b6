"""AGIQA-3K's quality and alignment, both models from random weights: our SFT recipe beside a plain CNN regressor.

    python benchmarks/agiqa3k.py ROOT [--out runs/agiqa3k] [--seed 0] [--split test] [--reuse] [key=value ...]

ROOT holds data.csv and images/. Same pictures at 96 px, same prompts to train on, same augmentation, same number of
steps and images a step, same held-out prompts (no prompt and no picture is in two splits). Options were chosen on
`--split dev`. The recipe learns SYNTHETIC distributions made of each published mean and deviation and reads the prompt;
the CNN learns the two means and sees the picture only. Writes OUT/results-SPLIT-SEED.json and .md, and for our model whether
its spread follows the published deviations: their rank correlation, and the share of (synthetic) ratings inside its central
80 % intervals, with 95 % intervals over prompts.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from zreward.common.files import write_json, write_text
from zreward.common.runs import versions
from zreward.data import Record, check_disjoint, import_agiqa3k, load_records
from zreward.evaluation.calibration import interval_coverage, spread
from zreward.evaluation.calibration_table import items_of
from zreward.evaluation.intervals import bootstrap
from zreward.evaluation.metrics import hpa, pair_counts, plcc, srcc
from zreward.evaluation.prediction import Predictions, predict
from zreward.models.pixels import resize, to_pixels
from zreward.models.reward_model import RewardModel
from zreward.training.augment import flip_and_shift
from zreward.training.recipe import Recipe, load_recipe
from zreward.training.run import train

DIMENSIONS = ("quality", "alignment")
SIDE, MARGIN, CENTRE = 96, 0.5, 3.0
CNN_LEARNING_RATE = 2e-3
RECIPE = Path(__file__).parents[1] / "recipes" / "agiqa3k-sft.yaml"
HEADER = ("model", "dimension", "PLCC", "SRCC", "HPA", "margin HPA", "pairs", "parameters", "minutes")


class PlainCNN(nn.Module):
    """Eight 3x3 convolutions with batch normalisation, global average pooling, one output per dimension."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 112, 176)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            for stride in (2, 1):
                layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, len(DIMENSIONS))

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, 2] scores."""
        return CENTRE + self.head(self.features(2 * pixels_N3HW - 1).mean((2, 3)))


def train_recipe(recipe: Recipe, run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)
    train(recipe)


def train_cnn(records: list[Record], recipe: Recipe, out: Path) -> None:
    """Least squares on the mean scores; AdamW, warm-up, cosine to zero, seed, steps and batch as in the recipe."""
    steps, batch_size, seed = recipe.optimizer.steps, recipe.optimizer.batch_size, recipe.seed
    torch.manual_seed(seed)
    model = PlainCNN()
    pictures, targets_N2 = [picture(record) for record in records], means(records)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CNN_LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    order: list[int] = []
    for _ in tqdm(range(steps), desc="training the CNN"):
        if len(order) < batch_size:
            order += torch.randperm(len(records)).tolist()
        chosen, order = order[:batch_size], order[batch_size:]
        pixels = torch.stack([flip_and_shift(pictures[index]) for index in chosen])
        loss = (model(pixels) - targets_N2[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), out)


def timed(file: Path, reuse: bool, work: Callable[[], None]) -> float:
    """Minutes that `work` took, kept in `file`; with `reuse` the file's, when the work was done before."""
    if not (reuse and file.exists()):
        start = time.perf_counter()
        work()
        write_json(file, (time.perf_counter() - start) / 60)
    return json.loads(file.read_text())


def picture(record: Record) -> Tensor:
    """[3, 96, 96] in [0, 1], resized as `RewardModel` does."""
    return resize(to_pixels(record.open_image()), (SIDE, SIDE))


def means(records: list[Record]) -> Tensor:
    """[N, 2] published mean scores, on the 1-5 scale."""
    return torch.tensor([[record.score(name) for name in DIMENSIONS] for record in records])


@torch.no_grad()
def cnn_scores(model: PlainCNN, records: list[Record]) -> Tensor:
    """[N, 2] predicted scores."""
    parts = [records[start : start + 64] for start in range(0, len(records), 64)]
    return torch.cat([model(torch.stack([picture(record) for record in part])) for part in parts])


def table_rows(name: str, scores_N2: Tensor, records: list[Record], model: nn.Module, minutes: float) -> list[dict]:
    """One row per dimension; pairs are pictures of one prompt."""
    target_N2, group = means(records), [record.group_key for record in records]
    rows = []
    for column, dimension in enumerate(DIMENSIONS):
        pred, target = scores_N2[:, column], target_N2[:, column]
        rows.append(
            {
                "model": name,
                "dimension": dimension,
                "plcc": plcc(pred, target),
                "srcc": srcc(pred, target),
                "hpa": hpa(pred, target, group),
                "margin_hpa": hpa(pred, target, group, MARGIN),
                "n_pairs": pair_counts(pred, target, group).pairs,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "minutes": round(minutes, 1),
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(HEADER) + " |", "| " + " | ".join(["---"] * len(HEADER)) + " |"]
    for row in rows:
        cells = [f"{value:.3f}" if isinstance(value, float) else f"{value:,}" for value in list(row.values())[2:8]]
        lines.append(f"| {row['model']} | {row['dimension']} | {' | '.join(cells)} | {row['minutes']:.1f} |")
    return "\n".join(lines) + "\n"


def spread_rows(predictions: Predictions, records: list[Record]) -> list[dict[str, Any]]:
    """Of each dimension: does a wide prediction go with a large published deviation, and are ratings where they should be?"""
    bins, rows = predictions.bins.double().numpy(), []
    for name, part in items_of(predictions, records).items():
        probs = part.probs.mean(1).double().numpy()
        wide = spread(probs, bins)
        figures = {
            "spread_srcc": lambda chosen, _, wide=wide, part=part: srcc(wide[chosen], part.published[chosen]),
            "coverage_80": lambda chosen, _, probs=probs, part=part: interval_coverage(
                probs[chosen], part.counts[chosen], 0.8
            ),
        }
        found = {key: bootstrap(figure, part.group)[:3] for key, figure in figures.items()}
        told = [f"{key} {value:.3f} ({low:.3f} to {high:.3f})" for key, (value, low, high) in found.items()]
        rows.append({"dimension": name, **found, "text": f"{name}: {', '.join(told)}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="AGIQA-3K: data.csv and images/")
    parser.add_argument("overrides", nargs="*", help="recipe key=value, for example optimizer.steps=100")
    parser.add_argument("--out", type=Path, default=Path("runs/agiqa3k"))
    parser.add_argument("--seed", type=int, default=0, help="of both trainings; the split stays the same")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="evaluated on; choose options on dev")
    parser.add_argument("--only", choices=("recipe", "cnn"), help="train one of the two")
    parser.add_argument("--reuse", action="store_true", help="evaluate what an earlier command trained")
    arguments = parser.parse_intermixed_args()

    data = import_agiqa3k(arguments.root, arguments.out)
    held_out = load_records(data, split=arguments.split)
    run = arguments.out / f"sft-{arguments.seed}"
    fixed = [f"data.train={data}", f"data.dev={data}", f"model.rubric={RECIPE.parents[1]}/zreward/rubrics/agiqa3k.yaml"]
    recipe = load_recipe(RECIPE, [*fixed, f"out={run}", f"seed={arguments.seed}", *arguments.overrides])
    records = load_records(data, split="train")
    check_disjoint(records, held_out)
    rows, spreads = [], []
    if arguments.only != "cnn":
        minutes = timed(run / "minutes.json", arguments.reuse, lambda: train_recipe(recipe, run))
        model = RewardModel.from_pretrained(run / "model")
        predictions = predict(model, held_out, DIMENSIONS)
        rows += table_rows("Qwen3.5 architecture, SFT", predictions.mean, held_out, model, minutes)
        spreads = spread_rows(predictions, held_out)
    if arguments.only != "recipe":
        saved = arguments.out / f"cnn-{arguments.seed}"
        minutes = timed(
            saved / "minutes.json", arguments.reuse, lambda: train_cnn(records, recipe, saved / "cnn.safetensors")
        )
        cnn = PlainCNN().eval()
        cnn.load_state_dict(load_file(saved / "cnn.safetensors"))
        rows += table_rows("plain CNN", cnn_scores(cnn, held_out), held_out, cnn, minutes)
    about = (
        f"{len(held_out)} pictures of {len({r.prompt for r in held_out})} held-out prompts ({arguments.split} split)"
    )
    name = f"results-{arguments.split}-{arguments.seed}"
    setting = {"split": arguments.split, "seed": arguments.seed, "threads": torch.get_num_threads()}
    write_json(arguments.out / f"{name}.json", {**setting, "versions": versions(), "rows": rows, "spread": spreads})
    told = markdown(rows) + "".join(f"\n{row['text']}\n" for row in spreads)
    write_text(arguments.out / f"{name}.md", f"{about}, seed {arguments.seed}\n\n{told}")
    print(f"{about}, seed {arguments.seed}, {torch.get_num_threads()} threads\n\n{told}")


if __name__ == "__main__":
    main()
