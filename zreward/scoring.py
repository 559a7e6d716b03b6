"""Scores of files as rows, and the table that the command line prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zreward.distribution import ScoreScale
from zreward.models.reward_model import RewardModel

BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#@"  # where the terminal or file is not UTF-8


def score_rows(
    model: RewardModel,
    images: Sequence[str],
    prompt: str,
    dimensions: Sequence[str] | None,
    batch_size: int,
    reference: str | None = None,
) -> list[dict[str, Any]]:
    """One row per image: {"image", "prompt", "dimensions": {name: {"mean", "std", "probs"}}}."""
    references = [reference] * len(images) if reference is not None else None
    distribution = model.score(images, prompt, dimensions, batch_size, references)
    return [
        {"image": image, "prompt": prompt, "dimensions": scores}
        for image, scores in zip(images, distribution.to_dicts(), strict=True)
    ]


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
