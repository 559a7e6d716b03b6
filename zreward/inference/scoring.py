"""Scores of files as rows, and the table that the command line prints."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zreward.common.files import atomic_path, to_json
from zreward.distribution import ScoreScale
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
) -> list[dict[str, Any]]:
    """Score images into plain rows, for printing and writing.

    Args:
        model: the reward model.
        images: N paths.
        prompts: N texts.
        dimensions: names; None: all of the rubric.
        batch_size: images in a batch; None: as `RewardModel.score` chooses.
        reference: an image to compare all of them with, for models that compare.

    Returns:
        One row per image: {"image", "prompt", "dimensions": {name: {"mean", "std", "probs"}}}.
    """
    references = [reference] * len(images) if reference is not None else None
    distribution = model.score(images, prompts, dimensions, batch_size, references)
    return [
        {"image": image, "prompt": prompt, "dimensions": scores}
        for image, prompt, scores in zip(images, prompts, distribution.to_dicts(), strict=True)
    ]


def write_scores(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of `score_rows` as a table: image, prompt, and NAME_mean, NAME_std, NAME_probs of every dimension.

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
    for name in ("image", "dimension", "mean", "std", f"{low} ... {high}"):
        table.add_column(name, justify="right" if name in ("mean", "std") else "left", overflow="fold")
    console = Console()
    for row in rows:
        for index, (name, value) in enumerate(row["dimensions"].items()):
            image = row["image"] if index == 0 else ""
            bars = _bars(value["probs"], BARS if console.encoding.startswith("utf") else PLAIN_BARS)
            table.add_row(escape(image), name, f"{value['mean']:.2f}", f"{value['std']:.2f}", bars)
    console.print(table)


def _bars(probs: Sequence[float], blocks: str) -> str:
    top = max(probs)
    return "".join(blocks[round(8 * p / top)] for p in probs)
