"""Training: reward models, a teacher's targets for a student, a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    BatchSize,
    Device,
    Dimensions,
    Out,
    Seed,
    Temperature,
    Traces,
    check_source,
    load_model,
    names_of,
    refuse_unsampled,
    refuse_unused,
)
from zreward.common.errors import InputError


def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example optimizer.steps=10.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check data, rubric and folders, then one step with tiny random weights."),
    ] = False,
) -> None:
    """Train by a recipe: SFT, RewardDance (two forms), RISD, GRPO, GDSO or OPD."""
    from zreward.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        refuse_unused(ctx, "with --dry-run, which starts from random weights", "resume")
        from zreward.training.checks import check_inputs
        from zreward.training.dry_run import dry_run as run_dry

        for line in check_inputs(loaded):
            typer.echo(f"checked: {line}")
        typer.echo(run_dry(loaded))
        return
    from zreward.training.run import train as run_train

    typer.echo(f"final model: {run_train(loaded, resume)}")


def label(
    ctx: typer.Context,
    teacher: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    data: Annotated[Path, typer.Option("--data", help="Records to label; ratings in them are not read.")],
    out: Out,
    split: Annotated[str | None, typer.Option(help="Only records of this split.")] = None,
    traces: Traces = 1,
    dimensions: Dimensions = None,
    direct: Annotated[bool, typer.Option("--direct", help="Let the teacher answer without reasoning.")] = False,
    temperature: Temperature = 1.0,
    batch_size: BatchSize = 16,
    shard_size: Annotated[int, typer.Option(min=1, help="Records per Parquet file.")] = 256,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with a folder that holds some shards; never start a new one.")
    ] = False,
    device: Device = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check records, teacher and folder, say what there is to do, and label nothing."
        ),
    ] = False,
) -> None:
    """Write a teacher's distributions over a pool into Parquet shards; run it again to finish what was cut off."""
    from zreward.data import load_records
    from zreward.training.targets import MANIFEST, LabelOptions
    from zreward.training.targets import label as run_label

    refuse_unsampled(ctx, not direct, temperature, traces)
    if resume and not (out / MANIFEST).is_file():
        raise InputError(f"{out}: nothing to resume, there is no {MANIFEST}; run without --resume first")
    check_source(data)
    options = LabelOptions(traces, names_of(dimensions), temperature, not direct, seed, shard_size, batch_size)
    if dry_run:
        from zreward.training.label_dry_run import check_inputs

        for line in check_inputs(teacher, data, out, options, split, skip_bad):
            typer.echo(f"checked: {line}")
        return
    loaded = load_model(teacher, device)
    records = load_records(data, skip_bad=skip_bad, split=split)
    typer.echo(f"targets: {run_label(loaded, teacher, records, out, options)}")


def optimize(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example student=runs/demo/models/student.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last whole checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check prompts, folders and the student, and train nothing.")
    ] = False,
) -> None:
    """Let a reward model's gradient improve a text-to-image generator; guards stop it before it is hacked."""
    from zreward.common.config import load_config
    from zreward.generation.recipe import OptimizeRecipe

    loaded = load_config(OptimizeRecipe, recipe, overrides or [])
    if dry_run:
        refuse_unused(ctx, "with --dry-run, which trains nothing", "resume")
        from zreward.generation.checks import check_inputs

        for line in check_inputs(loaded):
            typer.echo(f"checked: {line}")
        return
    from zreward.generation.optimize import optimize as run_optimize

    outcome = run_optimize(loaded, resume)
    typer.echo(f"{outcome.message}; generator: {outcome.model} (step {outcome.step})")
