"""Rubrics: check one before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.groups import HelpfulGroup

rubric_app = typer.Typer(cls=HelpfulGroup, help=__doc__)


@rubric_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Rubric, a YAML file.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Also check the labels with this model's tokenizer: checkpoint folder, hub name, or world:small."
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Image prompt to show in the conversation.")] = "a small red circle",
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Show the conversation that asks for reasoning before the score.")
    ] = False,
) -> None:
    """Check a rubric and print the exact conversation that a model gets; with --model in that model's own format."""
    from zreward.common.texts import check_prompt
    from zreward.models.rubric_check import describe, shown
    from zreward.rubric import Rubric

    check_prompt(prompt, "--prompt")
    rubric = Rubric.from_yaml(file)
    for line in describe(rubric):
        typer.echo(line)
    for line in shown(rubric, model, prompt, reasoning):
        typer.echo(line)
