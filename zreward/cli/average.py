"""The mean of several teachers' targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def average(
    out: Annotated[Path, typer.Argument(help="Folder to write; a student's recipe names it as data.targets.")],
    folders: Annotated[
        list[Path],
        typer.Argument(help="Two or more targets folders of the same records, each finished by `zreward label`."),
    ],
) -> None:
    """Average the targets of several teachers (seeds of one training, say), so that one student learns what all of them say."""
    from zreward.training.averaged_targets import average_targets

    typer.echo(f"targets: {average_targets(folders, out)}")
