"""Joining what the jobs of `--shard I/N` made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    out: Annotated[Path, typer.Argument(help="--out of the jobs: the targets' folder, or the scores' .parquet file.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of jobs that ran elsewhere (job-0001-of-0004, ...); default: those at --out."),
    ] = None,
) -> None:
    """Join the parts of `label` or `score --data` that jobs made with --shard: the same bytes as from one process."""
    if out.suffix.lower() == ".parquet":
        from zreward.inference.bulk_jobs import merge_scores

        typer.echo(f"{out}: {merge_scores(out, folders or ()):,} rows")
    else:
        from zreward.training.target_jobs import merge_targets

        typer.echo(f"targets: {merge_targets(out, folders or ())}")
