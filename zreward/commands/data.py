"""Data sets: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.commands.groups import HelpfulGroup
from zreward.commands.options import Seed
from zreward.errors import InputError

data_app = typer.Typer(cls=HelpfulGroup, help=__doc__)


@data_app.command("import")
def import_data(
    kind: Annotated[str, typer.Argument(help="The data set's layout: agiqa3k.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Argument(help="Folder or file for the records.")],
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
) -> None:
    """Turn a published data set into records; images stay where they are."""
    from zreward.data import import_agiqa3k

    if kind != "agiqa3k":
        raise InputError(f"data set layout {kind!r} is unknown; expected agiqa3k")
    typer.echo(f"records: {import_agiqa3k(root, out, seed=seed, skip_bad=skip_bad)}")
