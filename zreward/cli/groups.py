"""Groups of commands: alone they print their help; `-h` and examples work everywhere."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from zreward.cli.examples import EXAMPLES


class HelpfulGroup(TyperGroup):
    """A group that is called without a command prints its help and ends with exit code 0."""

    def parse_args(self, ctx, args):
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)


def add_examples(app: typer.Typer, path: str = "") -> None:
    """Put the examples of `zreward.cli.examples` below the help of every command of `app` and of its groups."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        command.epilog = examples_of(f"{path} {name}".strip())
    for group in app.registered_groups:
        assert group.typer_instance is not None and group.name is not None
        group.epilog = examples_of(f"{path} {group.name}".strip())
        add_examples(group.typer_instance, f"{path} {group.name}".strip())


def examples_of(path: str) -> str:
    """The epilog of a command's help, in the markup of the command line's library."""
    return "\n".join(["Examples:", *(f"$ {line}" for line in EXAMPLES[path])]).replace("[", "\\[")
