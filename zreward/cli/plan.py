"""`zreward plan`: memory, tokens and time of a recipe, from configurations alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zreward.cli.options import STDOUT, Json, check_target, refuse_unused, save
from zreward.common.errors import InputError

if TYPE_CHECKING:
    from zreward.planning.plan import Machines, Plan
    from zreward.training.recipe import Recipe


def plan(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; its data need not exist.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe keys to change, as key=value: model.lora_rank=64.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="GPUs; default: num_processes of --accelerate, else 1.")
    ] = None,
    gpu: Annotated[
        str,
        typer.Option("--gpu", help="Card: 4090, a100-40, a100, l40s, h100, h200 or b200, with its stated peak rates."),
    ] = "h100",
    memory: Annotated[
        float | None, typer.Option("--memory", min=1, help="GB (10^9 bytes) of each GPU; default: the card's.")
    ] = None,
    accelerate: Annotated[
        Path | None,
        typer.Option("--accelerate", help="accelerate's configuration, such as recipes/accelerate/fsdp2.yaml."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="none, ddp, fsdp, zero1, zero2 or zero3; default: that of the recipe's trainer keys or --accelerate, else "
            "none for one GPU and ddp for several.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The model's config.json, where neither folder nor hub has it.")
    ] = None,
    teacher_config: Annotated[
        Path | None, typer.Option("--teacher-config", help="The same for the teacher of method opd.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Say what a recipe needs: parameters, memory of a GPU by kind, tokens, FLOP and time of a step, and whether it fits.

    Only configurations are read, no weights and no data. Exit code: 0 if it fits; 2 if it does not, with the nearest
    configuration that does.
    """
    from zreward.planning.cards import CARDS, GB
    from zreward.planning.engines import engine_of
    from zreward.planning.plan import Machines, make_plan
    from zreward.training.recipe import load_recipe

    check_target(json_file)
    if gpu not in CARDS:
        raise InputError(
            f"--gpu {gpu} is unknown; expected one of {', '.join(CARDS)} (with --memory GB for another size)"
        )
    loaded, card = load_recipe(recipe, overrides or []), CARDS[gpu]
    if loaded.rollout.teacher is None:
        refuse_unused(ctx, "without rollout.teacher, which method opd has", "teacher_config")
    machines = Machines(
        card,
        round(memory * GB) if memory else card.memory,
        engine_of(loaded, accelerate, engine, gpus),
        config,
        teacher_config,
    )
    made = make_plan(loaded, machines)
    if json_file != STDOUT:
        _print(made)
    if json_file:
        save(json_file, made.to_dict())
    if not made.fits:
        raise InputError(_refusal(recipe, loaded, machines, made))


def _refusal(path: Path, recipe: Recipe, machines: Machines, made: Plan) -> str:
    from zreward.planning.cards import GB
    from zreward.planning.search import MOST_GPUS, ORDER, nearest

    needs = f"{path} needs {made.memory.total / GB:.1f} GB on each GPU, which has {machines.memory / GB:.0f} GB"
    found = nearest(recipe, machines)
    if found is None:
        return f"{needs}; nothing that was tried fits ({ORDER}, up to {MOST_GPUS}); use cards with more memory"
    candidate, plan = found
    return (
        f"{needs}; the nearest configuration that fits ({plan.memory.total / GB:.1f} GB): {' '.join(candidate.changes)} "
        f"(tried in this order: {ORDER})"
    )


def _print(made: Plan) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from zreward.planning.cards import GB

    typer.echo(made.headline())
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("on each GPU")
    table.add_column("GB", justify="right")
    for name, size in made.memory.to_dict().items():
        if size:
            table.add_row(name, f"{size / GB:.2f}")
    console = Console()
    console.print(table)
    for name, count in made.tokens.items():
        if count:
            typer.echo(f"tokens, {name.replace('_', ' ')}: {count:,}")
    seconds = made.to_dict()["seconds"]
    typer.echo(
        f"a step: about {seconds['rollout']:.0f} s of roll-out and {seconds['update']:.0f} s of update; "
        f"{made.recipe.optimizer.steps:,} steps: about {seconds['run'] / 3600:.1f} hours"
    )
    for line in made.assumptions:
        console.print(escape(f"assumed: {line}"), highlight=False)
