"""Training: reward models, a teacher's targets for a student, a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.commands.options import Dimensions, Out, Seed, Temperature, load_model, names_of


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example optimizer.steps=10.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One step with tiny random weights of the architecture.")
    ] = False,
) -> None:
    """Train by a recipe: SFT, RewardDance (two forms), RISD, GRPO, GDSO or OPD."""
    from zreward.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        from zreward.training.dry_run import dry_run as run_dry

        typer.echo(run_dry(loaded))
        return
    from zreward.training.run import train as run_train

    typer.echo(f"final model: {run_train(loaded, resume)}")


def label(
    teacher: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    data: Annotated[Path, typer.Option("--data", help="Records to label; ratings in them are not read.")],
    out: Out,
    split: Annotated[str | None, typer.Option(help="Only records of this split.")] = None,
    traces: Annotated[int, typer.Option(help="Traces per item whose distributions are averaged.")] = 1,
    dimensions: Dimensions = None,
    direct: Annotated[bool, typer.Option("--direct", help="Let the teacher answer without reasoning.")] = False,
    temperature: Temperature = 1.0,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 16,
    shard_size: Annotated[int, typer.Option(help="Records per Parquet file.")] = 256,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a folder that holds some shards (also the default).")
    ] = False,
) -> None:
    """Write a teacher's distributions over a pool into Parquet shards; run it again to finish what was cut off."""
    from zreward.data import load_records
    from zreward.training.targets import LabelOptions
    from zreward.training.targets import label as run_label

    options = LabelOptions(traces, names_of(dimensions), temperature, not direct, seed, shard_size, batch_size)
    loaded = load_model(teacher)
    records = load_records(data, skip_bad=skip_bad, split=split)
    typer.echo(f"targets: {run_label(loaded, teacher, records, out, options)}")


def optimize(
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example student=runs/demo/models/student.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
) -> None:
    """Let a reward model's gradient improve a text-to-image generator; guards stop it before it is hacked."""
    from zreward.config import load_config
    from zreward.generation.optimize import optimize as run_optimize
    from zreward.generation.recipe import OptimizeRecipe

    outcome = run_optimize(load_config(OptimizeRecipe, recipe, overrides or []), resume)
    typer.echo(f"{outcome.message}; generator: {outcome.model} (step {outcome.step})")
