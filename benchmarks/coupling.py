"""Does a GDSO teacher's score follow its reasoning, with and without the coupling term, and what does the term cost in HPA?

    python benchmarks/coupling.py OUT [--weights 0,1] [--margin 0.5] [--seed 0] [--split test] [--json FILE]

Trains the large teacher of the built-in world once for each weight of `rollout.coupling_weight`, with the same pictures, steps
and seed, on all four dimensions; then edits, swaps and empties its traces. The world's editor knows what each edit is worth.
Weight, margin and steps are chosen on `--split dev`. What is done already is kept. About 5 minutes of one core a training.
Also writes the plot of docs/guides/trust.md, OUT/coupling-SPLIT-SEED.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from zreward.common.files import atomic_path, write_json
from zreward.common.runs import versions
from zreward.data import Record, load_records
from zreward.evaluation.coupling import Coupling, measure_coupling
from zreward.evaluation.coupling_edits import DIRECTIONS
from zreward.evaluation.coupling_table import EDITS, OWN, counts_by_prompt, coupling_table, print_coupling
from zreward.evaluation.intervals import bootstrap
from zreward.evaluation.report.plots import COLOURS, DPI, FAINT
from zreward.evaluation.tables import POOLED
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.world.dataset import WorldSize, make_world
from zreward.world.settings import TEMPERATURE, recipe_file

WORLD_SEED = 61  # no study uses it
SIZE = WorldSize(train=(400, 2), dev=(60, 4), pool=(1, 1), test=(120, 4))
EDITOR = "world"


def trained(out: Path, weight: float, arguments: argparse.Namespace) -> Path:
    """The teacher's folder; the run of a weight goes on where it stopped."""
    name = "plain" if not weight else f"weight-{weight:g}-margin-{arguments.margin:g}"
    folder = out / f"{name}-{arguments.steps}-{arguments.seed}"
    if not (folder / "model" / "zreward.json").exists():
        chosen = [
            f"optimizer.steps={arguments.steps}",
            f"optimizer.learning_rate={arguments.rate}",
            f"seed={arguments.seed}",
        ]
        chosen += [f"optimizer.batch_size={arguments.batch_size}"]
        chosen += [f"data.train={out / 'data' / 'train.parquet'}", "data.dev=null", "eval_every=0", f"out={folder}"]
        recipe = load_recipe(recipe_file("world-gdso"), chosen)
        if weight:
            term = {"coupling_weight": weight, "coupling_margin": arguments.margin, "coupling_editor": EDITOR}
            recipe = replace(recipe, rollout=replace(recipe.rollout, **term))
        train(recipe, resume=(folder / "recipe.yaml").exists())
    return folder / "model"


def measured(folder: Path, records: list[Record], split: str) -> tuple[Coupling, list[dict[str, Any]]]:
    model = RewardModel.from_pretrained(folder)
    coupling = measure_coupling(model, records, editor=EDITOR, temperature=TEMPERATURE, batch_size=64)
    rows = coupling_table(coupling, records)
    print_coupling(rows, coupling, f"{folder.parent.name} on {split}")
    write_json(folder.parent / f"coupling-{split}.json", rows)
    return coupling, rows


def paired(plain: Coupling, other: Coupling, records: list[Record]) -> dict[str, Any]:
    """The other teacher's HPA minus the plain one's, and so for the share of edits that went the right way; over prompts."""
    counts = []
    for one in (plain, other):
        mu = one.predictions.mean.double().numpy()
        said = np.array([mu[n, one.predictions.dimensions.index(name)] for n, name in one.items])
        counts.append(counts_by_prompt(one.items, said, records))
    (before, pairs, prompts), (after, _, _) = counts
    hpa = bootstrap(lambda chosen, _: float((after - before)[chosen].sum() / pairs[chosen].sum()), prompts)
    right = []
    for one in (plain, other):
        found = {prompt: [0, 0] for prompt in prompts}
        for reading in one.readings:
            if reading.kind in DIRECTIONS:
                own = found[records[reading.record].group_key]
                own[0] += reading.shift * DIRECTIONS[reading.kind] > 0
                own[1] += 1
        right.append(np.array(list(found.values()), dtype=float))

    def gained(chosen: Any, _: Any) -> float:
        shares = [part[chosen, 0].sum() / part[chosen, 1].sum() for part in right]
        return float(shares[1] - shares[0])

    difference = bootstrap(gained, prompts)
    return {"hpa": hpa[:3], "right": difference[:3]}


def draw(file: Path, tables: dict[float, list[dict[str, Any]]]) -> None:
    """Right way and points of mu per point of an edit, by kind of edit: all dimensions together, 95 % intervals."""
    kinds = [*DIRECTIONS, EDITS]
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    for ax, key, title in zip(
        figure.subplots(1, 2), ("right", "weight"), ("moved the right way", "points of mu per point"), strict=True
    ):
        ax.axhline({"right": 0.5, "weight": 1.0}[key], color=FAINT, zorder=0)
        for number, (weight, rows) in enumerate(tables.items()):
            row_of = {row["trace"]: row for row in rows if row["dimension"] == POOLED}
            middle = np.array([row_of[kind][key] for kind in kinds])
            ends = np.array([[row_of[kind][f"{key}_{end}"] for kind in kinds] for end in ("low", "high")])
            at = np.arange(len(kinds)) + (number - (len(tables) - 1) / 2) * 0.25
            name = f"term of weight {weight:g}" if weight else "GDSO"
            ax.errorbar(at, middle, abs(ends - middle), fmt="o", markersize=4, color=COLOURS[number], label=name)
        ax.set_xticks(range(len(kinds)), kinds)
        ax.set(title=title, ylim=(0, 1.05))
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(loc="lower left", frameon=False)
    with atomic_path(file) as path:
        figure.savefig(path, format="png", dpi=DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--weights", default="0,1", help="of the term; the first one is what the others are compared with"
    )
    parser.add_argument("--margin", type=float, default=0.5, help="in score points")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=4, help="pairs a step")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not (arguments.out / "data" / "panel.json").exists():
        make_world(arguments.out / "data", WORLD_SEED, SIZE)
    records = load_records(arguments.out / "data" / f"{arguments.split}.parquet")
    weights = [float(weight) for weight in arguments.weights.split(",")]
    folders = [trained(arguments.out, weight, arguments) for weight in weights]
    found = {
        weight: measured(folder, records, arguments.split) for weight, folder in zip(weights, folders, strict=True)
    }
    first = found[weights[0]][0]
    differences = {weight: paired(first, found[weight][0], records) for weight in weights[1:]}
    for weight, (_, rows) in found.items():
        pooled = {row["trace"]: row for row in rows if row["dimension"] == POOLED}
        print(f"weight {weight:g}: right way {pooled[EDITS]['right']:.3f}, HPA {pooled[OWN]['hpa']:.4f}", end="")
        for name, (value, low, high) in differences.get(weight, {}).items():
            print(f"; {name} {value:+.4f} ({low:+.4f} to {high:+.4f}) against weight {weights[0]:g}", end="")
        print()
    drawn = {weight: rows for weight, (_, rows) in found.items()}
    draw(arguments.out / f"coupling-{arguments.split}-{arguments.seed}.png", drawn)
    if arguments.json:
        facts = {"size": asdict(SIZE), "world_seed": WORLD_SEED, "versions": versions()}
        tables = {f"{weight:g}": rows for weight, rows in drawn.items()}
        stored = {"options": vars(arguments), "tables": tables, "differences": differences} | facts
        arguments.json.write_text(json.dumps(stored, indent=2, default=str))


if __name__ == "__main__":
    main()
