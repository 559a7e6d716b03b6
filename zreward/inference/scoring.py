"""Scores of files as rows, directly or after reasoning, and the table that the command line prints."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zreward.common.files import atomic_path, to_json
from zreward.distribution import ScoreDistribution, ScoreScale, split_spread
from zreward.models.reward_model import RewardModel

SUFFIXES = (".csv", ".jsonl", ".parquet")
BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#@"  # where the terminal or file is not UTF-8


def score_rows(
    model: RewardModel,
    images: Sequence[str],
    prompts: Sequence[str],
    dimensions: Sequence[str] | None,
    batch_size: int | None,
    reference: str | None = None,
    sampling: Sampling | None = None,
) -> list[dict[str, Any]]:
    """Score images into plain rows, for printing and writing.

    Args:
        model: the reward model.
        images: N paths.
        prompts: N texts.
        dimensions: names; None: all of the rubric.
        batch_size: images in a batch; None: as `RewardModel.score` chooses.
        reference: an image to compare all of them with, for models that compare.
        sampling: let the model reason first; None: it answers directly.

    Returns:
        One row per image: {"image", "prompt", "dimensions": {name: {"mean", "std", "probs"}}}; after reasoning a dimension also
        has "within_std" and "between_std", the standard deviations within and between its traces.
    """
    spreads: list[dict[str, dict[str, float]]] | None = None
    if sampling:
        distribution, spreads = reasoned(model, images, prompts, dimensions, batch_size, sampling)
    else:
        references = [reference] * len(images) if reference is not None else None
        distribution = model.score(images, prompts, dimensions, batch_size, references)
    rows = []
    for i, scores in enumerate(distribution.to_dicts()):
        more = spreads[i] if spreads else {name: {} for name in scores}
        dimensions_of = {name: score | more[name] for name, score in scores.items()}
        rows.append({"image": images[i], "prompt": prompts[i], "dimensions": dimensions_of})
    return rows


@dataclass(frozen=True)
class Sampling:
    """How a model reasons before it scores: K traces of a picture and dimension, whose distributions are averaged."""

    traces: int = 1
    temperature: float = 1.0
    seed: int = 0


def reasoned(
    model: RewardModel,
    images: Sequence[str],
    prompts: Sequence[str],
    dimensions: Sequence[str] | None,
    batch_size: int | None,
    sampling: Sampling,
) -> tuple[ScoreDistribution, list[dict[str, dict[str, float]]]]:
    """Scores after reasoning, and where their spread comes from (`zreward.distribution.split_spread`).

    torch's random state is left as it was. Sampled traces depend on the seed and the batch size.

    Args:
        model: the reward model, one that reasons.
        images: N paths.
        prompts: N texts.
        dimensions: names; None: all of the rubric.
        batch_size: images in a batch; None: as `RewardModel.judge` chooses.
        sampling: traces, temperature and seed.

    Returns:
        The averaged distributions of N images, and per image {dimension: {"within_std", "between_std"}}, score units.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(sampling.seed)
        judged = model.judge(images, prompts, sampling.traces, dimensions, sampling.temperature, batch_size)
    bins, names = model.rubric.scale.bins, model.check_dimensions(dimensions)
    averaged = ScoreDistribution.cat([one.distribution for one in judged])
    spreads = []
    for one in judged:
        within, between = split_spread(one.trace_distribution.transpose(0, 1), bins)
        spreads.append(
            {name: {"within_std": within[d].item(), "between_std": between[d].item()} for d, name in enumerate(names)}
        )
    return averaged, spreads


def write_scores(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of `score_rows` as a table: image, prompt, and NAME_mean, NAME_std, NAME_probs (and the rest) of every dimension.

    Written whole, by the suffix of `path`: .csv (probabilities separated by spaces), .jsonl or .parquet.
    """
    table = [
        {"image": row["image"], "prompt": row["prompt"]}
        | {f"{name}_{key}": value for name, score in row["dimensions"].items() for key, value in score.items()}
        for row in rows
    ]
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            _write_csv(temporary, table)
        elif path.suffix.lower() == ".jsonl":
            temporary.write_text("".join(to_json(row, indent=None) + "\n" for row in table), encoding="utf-8")
        else:
            _write_parquet(temporary, table)


def _write_csv(path: Path, table: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        for row in table:
            writer.writerow({k: " ".join(map(repr, v)) if isinstance(v, list) else v for k, v in row.items()})


def _write_parquet(path: Path, table: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(table)), path)


def print_scores(rows: Sequence[dict[str, Any]], scale: ScoreScale) -> None:
    """A table with mean, standard deviation and the distribution as bars, and the scale in its caption."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    low, high, step = (f"{value:g}" for value in (scale.min, scale.max, scale.step))
    table = Table(
        caption=f"scores from {low} (worst) to {high} (best) in steps of {step}; bars: probability of each step"
    )
    sampled = any("within_std" in value for row in rows for value in row["dimensions"].values())
    numbers = {"mean": "mean", "std": "std"} | ({"within_std": "within", "between_std": "between"} if sampled else {})
    for name in ("image", "dimension", *numbers.values(), f"{low} ... {high}"):
        table.add_column(name, justify="right" if name in numbers.values() else "left", overflow="fold")
    console = Console()
    for row in rows:
        for index, (name, value) in enumerate(row["dimensions"].items()):
            image = row["image"] if index == 0 else ""
            bars = _bars(value["probs"], BARS if console.encoding.startswith("utf") else PLAIN_BARS)
            table.add_row(escape(image), name, *(f"{value[key]:.2f}" for key in numbers), bars)
    console.print(table)


def _bars(probs: Sequence[float], blocks: str) -> str:
    top = max(probs)
    return "".join(blocks[round(8 * p / top)] for p in probs)
