"""The command line: puts the commands together. Bad input ends with one clear message and exit code 2, without a traceback."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zreward.cli.audit import audit
from zreward.cli.average import average
from zreward.cli.bench import bench
from zreward.cli.calibrate import calibrate
from zreward.cli.compare import compare
from zreward.cli.data import data_app
from zreward.cli.doctor import doctor
from zreward.cli.evaluate import evaluate
from zreward.cli.exits import exit_code, prepare_streams
from zreward.cli.groups import HelpfulGroup, add_examples, examples_of
from zreward.cli.init import init
from zreward.cli.merge import merge
from zreward.cli.options import STDOUT
from zreward.cli.plan import plan
from zreward.cli.publish import export, push
from zreward.cli.rank import rank
from zreward.cli.rubric import rubric_app
from zreward.cli.score import score
from zreward.cli.serve import serve
from zreward.cli.studio import studio_app
from zreward.cli.train import label, optimize, train
from zreward.cli.world import demo, reproduce, world_app
from zreward.common.version import __version__

HELP = "Train, run and serve reward models: a distribution over rubric scores for every image and dimension."
app = typer.Typer(
    cls=HelpfulGroup,
    pretty_exceptions_enable=False,
    help=HELP,
    epilog=examples_of(""),
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    score,
    evaluate,
    calibrate,
    audit,
    bench,
    plan,
    train,
    label,
    merge,
    average,
    export,
    push,
    demo,
    reproduce,
    optimize,
    rank,
    serve,
    compare,
    init,
    doctor,
):
    app.command()(command)
app.add_typer(studio_app, name="studio")
app.add_typer(data_app, name="data")
app.add_typer(rubric_app, name="rubric")
app.add_typer(world_app, name="world")
add_examples(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zreward {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _with_json_target(arguments: list[str]) -> list[str]:
    """A `--json` that no file follows prints: the command line's library knows no option with an optional value."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    following = [*arguments, "--"][1:]
    return [
        part
        for place, (word, after) in enumerate(zip(arguments, following, strict=True))
        for part in (
            [word, str(STDOUT)]
            if word == "--json" and place < end and after.startswith("-") and after != str(STDOUT)
            else [word]
        )
    ]


def main() -> None:
    """Entry point of `zreward`."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    prepare_streams()
    arguments = sys.argv[1:]
    sys.exit(exit_code(lambda: app(_with_json_target(arguments)), arguments))


if __name__ == "__main__":
    main()
