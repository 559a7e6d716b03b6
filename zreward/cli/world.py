"""The built-in world, and the experiments on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.groups import HelpfulGroup
from zreward.cli.options import Out, Seed, names_of
from zreward.common.errors import InputError

ESTIMATE = "about ten minutes on two quiet CPU cores; a cut-off run goes on with --resume"
world_app = typer.Typer(cls=HelpfulGroup, help="The built-in world: make its data, pretrain its base models.")


def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished steps of an earlier run in the folder.")
    ] = False,
) -> None:
    """The main job on the built-in world: data, teacher (GDSO), student (RISD), evaluation, report."""
    from zreward.world.demo import run_demo

    if resume and not (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: nothing to resume; run without --resume first")
    typer.echo(ESTIMATE)
    run_demo(out, seed, resume)


def reproduce(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value for every recipe, such as optimizer.steps=20.")
    ] = None,
    out: Out = Path("runs/reproduce"),
    only: Annotated[
        str, typer.Option(help="Parts, separated by commas: table2, table3, fig1, fig4, ablations.")
    ] = "table2,table3,fig1,fig4",
    methods: Annotated[
        str | None, typer.Option(help="Of the parts' methods only these, such as large-gdso, separated by commas.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds per method.")] = 3,
    world_seed: Annotated[int, typer.Option(help="Seed of prompts, scenes, raters and splits.")] = 0,
    dimensions: Annotated[str, typer.Option(help="Names, separated by commas, or all.")] = "alignment",
    jobs: Annotated[int, typer.Option(min=1, help="Tasks side by side, each with its share of the cores.")] = 2,
) -> None:
    """The paper's tables and curves on the built-in world; goes on where an earlier run in the folder stopped."""
    from zreward.world.base_models import world_rubric
    from zreward.world.reproduce import StudyPlan
    from zreward.world.reproduce import reproduce as run_study

    known = world_rubric().dimension_names
    names = known if dimensions == "all" else tuple(names_of(dimensions) or ())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"dimensions {dimensions!r}: unknown {unknown}; expected some of {list(known)}, or all")
    study = StudyPlan(
        out,
        seeds,
        world_seed,
        names,
        names_of(only, "--only") or (),
        tuple(overrides or ()),
        chosen=names_of(methods, "--methods") or (),
    )
    typer.echo(f"page: {run_study(study, jobs)}")


@world_app.command("data")
def world_data(out: Out, seed: Seed = 0) -> None:
    """Make the world's train, dev, pool and test records."""
    from zreward.world.dataset import make_world

    for name, path in make_world(out, seed).items():
        typer.echo(f"{name}: {path}")


@world_app.command("pretrain")
def world_pretrain(
    model: Annotated[str, typer.Argument(help="large, small or generator.")],
    out: Out,
    seed: Seed = 0,
) -> None:
    """Make a shipped model again from random weights (large: about two hours of one core; generator, small: under one)."""
    from zreward.world.base_models import SIZES

    if model in SIZES:
        from zreward.world.pretrain import CONFIGS, pretrain

        pretrain(CONFIGS[model].with_seed(seed), out)
    elif model == "generator":
        from zreward.world.drawing import DrawingConfig, pretrain_generator

        pretrain_generator(DrawingConfig(seed=seed), out)
    else:
        raise InputError(f"model {model!r} is unknown; expected one of {[*SIZES, 'generator']}")
