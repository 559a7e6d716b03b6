"""The built-in world, and the experiments on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.groups import HelpfulGroup
from zreward.cli.options import Out, Seed, names_of
from zreward.common.errors import InputError

ESTIMATE = "about ten minutes on two quiet CPU cores; --resume continues an interrupted run"
world_app = typer.Typer(cls=HelpfulGroup, help="The built-in world: make its data, pretrain its base models.")


def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an earlier run in the folder: finished steps are kept.")
    ] = False,
) -> None:
    """Run the whole pipeline on the built-in world: data, teacher (GDSO), student (RISD), evaluation, report.html."""
    from zreward.world.demo import run_demo

    if resume and not (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: nothing to resume; run without --resume first")
    typer.echo(ESTIMATE)
    run_demo(out, seed, resume)


def reproduce(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Keys to change in every recipe, as key=value: optimizer.steps=20.")
    ] = None,
    out: Out = Path("runs/reproduce"),
    only: Annotated[
        str, typer.Option(help="Parts to run, separated by commas: table2, table3, fig1, fig4, ablations.")
    ] = "table2,table3,fig1,fig4",
    methods: Annotated[
        str | None,
        typer.Option(help="Methods to run, separated by commas, such as large-gdso; default: all of the parts."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds per method.")] = 3,
    world_seed: Annotated[int, typer.Option(help="Seed of prompts, scenes, raters and splits.")] = 0,
    dimensions: Annotated[str, typer.Option(help="Dimensions, separated by commas, or all.")] = "alignment",
    jobs: Annotated[
        int, typer.Option(min=1, help="Tasks to run in parallel; the CPU cores are divided among them.")
    ] = 2,
) -> None:
    """Repeat the paper's tables and figures on the built-in world; run it again to continue."""
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
def world_data(
    out: Out,
    seed: Seed = 0,
    task: Annotated[
        str, typer.Option(help="What is judged: image (of a prompt), text (an answer), or edit (before and after).")
    ] = "image",
) -> None:
    """Generate the world's items and ratings: train, dev, pool and test records.

    Of the tasks text and edit also a rubric, and the base models that are asked with it: OUT/large and OUT/small.
    """
    from zreward.world.dataset import make_world
    from zreward.world.tasks import TASKS, make_task

    if task not in ("image", *TASKS):
        raise InputError(f"--task {task!r} is unknown; expected image, {' or '.join(TASKS)}")
    made = make_world(out, seed) if task == "image" else make_task(task, out, seed)
    for name, path in made.items():
        typer.echo(f"{name}: {path}")


@world_app.command("pretrain")
def world_pretrain(
    model: Annotated[str, typer.Argument(help="Model to train: large, small or generator.")],
    out: Out,
    seed: Seed = 0,
) -> None:
    """Train a shipped model again from random weights (large: about two core hours; generator and small: under one)."""
    from zreward.world.base_models import SIZES

    if model in SIZES:
        from zreward.world.pretrain import CONFIGS, pretrain

        pretrain(CONFIGS[model].with_seed(seed), out)
    elif model == "generator":
        from zreward.world.drawing import DrawingConfig, pretrain_generator

        pretrain_generator(DrawingConfig(seed=seed), out)
    else:
        raise InputError(f"model {model!r} is unknown; expected one of {[*SIZES, 'generator']}")
