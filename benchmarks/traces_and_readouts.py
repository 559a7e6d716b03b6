"""Where a reasoning judge's agreement with people comes from: its traces, or what it makes of them.

    python benchmarks/traces_and_readouts.py STUDY [--seed 0] [--world-seed 900] [--prompts 400] [--json FILE]

STUDY is a folder of `zreward reproduce`. Every large model of the comparison that reasons writes traces for fresh pictures
(a world seed that no study uses), and every model reads every model's traces: HPA by who wrote (rows) and who read (columns).
The columns of one row differ only in the read-out, the rows of one column only in the traces. Shapes: N pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from zreward.common.runs import versions
from zreward.data import Record, load_records
from zreward.evaluation.prediction import Predictions, metrics_table
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row
from zreward.world.base_models import load_base
from zreward.world.dataset import WorldSize, make_world
from zreward.world.settings import REASONING_BATCH, TEMPERATURE

WRITERS = ("base", "grpo", "grpo-parsed", "gdso-parsed", "gdso")
NOTHING = (1, 1)


@torch.no_grad()
def write_traces(model: RewardModel, records: list[Record], dimension: str) -> list[Trace]:
    traces: list[Trace] = []
    for images, rows in batches(model, records, dimension):
        traces += model.reason(images, rows, TEMPERATURE)
    return traces


@torch.no_grad()
def read_scores(model: RewardModel, records: list[Record], dimension: str, traces: list[Trace]) -> Tensor:
    """Distributions (N, S) after the given traces."""
    found, waiting = [], iter(traces)
    for images, rows in batches(model, records, dimension):
        answered = [replace(row, trace=next(waiting)) for row in rows]
        found.append(model.backbone(model.collate(images, answered)).score_logits.softmax(-1))
    return torch.cat(found)


def batches(model: RewardModel, records: list[Record], dimension: str):
    for start in range(0, len(records), REASONING_BATCH):
        chunk = records[start : start + REASONING_BATCH]
        yield (
            [model.open(record.image) for record in chunk],
            [Row((n,), record.prompt, dimension) for n, record in enumerate(chunk)],
        )


def agreement(model: RewardModel, records: list[Record], dimension: str, probs_NS: Tensor) -> float:
    """HPA of distributions (N, S)."""
    nothing = torch.zeros(len(records), 1)
    predictions = Predictions(probs_NS[:, None], model.rubric.scale.bins, (dimension,), nothing, nothing)
    return metrics_table(predictions, records)[0]["hpa"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="training seed of the models")
    parser.add_argument("--world-seed", type=int, default=900)
    parser.add_argument("--prompts", type=int, default=400, help="four pictures each")
    parser.add_argument("--dimension", default="alignment")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folders = {name: arguments.study / "runs" / f"large-{name}-{arguments.seed}" / "model" for name in WRITERS[1:]}
    models = {"base": load_base("large")} | {name: RewardModel.from_pretrained(path) for name, path in folders.items()}
    size = WorldSize(train=NOTHING, dev=(arguments.prompts, 4), pool=NOTHING, test=NOTHING)
    with tempfile.TemporaryDirectory() as folder:
        paths = make_world(Path(folder), arguments.world_seed, size, (arguments.dimension,))
        records = load_records(paths["dev"])
    torch.manual_seed(arguments.seed)
    table: dict[str, dict[str, float]] = {}
    for writer, model in tqdm(models.items(), desc="writers"):
        traces = write_traces(model.eval(), records, arguments.dimension)
        table[writer] = {
            reader: agreement(
                other, records, arguments.dimension, read_scores(other.eval(), records, arguments.dimension, traces)
            )
            for reader, other in models.items()
        }
    print("| traces of | " + " | ".join(f"read by {name}" for name in models) + " |")
    print("| --- " * (len(models) + 1) + "|")
    for writer, row in table.items():
        print(f"| {writer} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"hpa": table, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
