"""The command line: one thin command per arrow. Bad input ends with one clear message and exit code 2, without a traceback."""

from __future__ import annotations

import os
import sys

import typer

from zreward.commands.compare import compare
from zreward.commands.data import data_app
from zreward.commands.options import STDOUT
from zreward.commands.score import evaluate, rank, score, serve
from zreward.commands.train import label, optimize, train
from zreward.commands.world import demo, reproduce, world_app
from zreward.errors import InputError
from zreward.studio.command import studio_app

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split(".")[0]
)
for command in (score, evaluate, train, label, demo, reproduce, optimize, rank, serve, compare):
    app.command()(command)
app.add_typer(studio_app, name="studio")
app.add_typer(data_app, name="data")
app.add_typer(world_app, name="world")

EXTRAS = {
    "matplotlib": "report",
    "datasets": "datasets",
    "diffusers": "generation",
    "bitsandbytes": "quantized",
    "fastapi": "serve",
    "uvicorn": "serve",
    "httpx": "serve",
    "tenacity": "serve",
    "sqlalchemy": "studio",
    "alembic": "studio",
    "argon2": "studio",
    "itsdangerous": "studio",
    "python_multipart": "studio",
    "krippendorff": "studio",
}


def _with_json_target(arguments: list[str]) -> list[str]:
    """A `--json` that no file follows prints: the command line's library knows no option with an optional value."""
    following = [*arguments[1:], "--"]
    return [
        part
        for word, after in zip(arguments, following, strict=True)
        for part in ([word, str(STDOUT)] if word == "--json" and after.startswith("--") else [word])
    ]


def main() -> None:
    """Entry point: InputError, and files that cannot be read or written, become a message and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app(_with_json_target(sys.argv[1:]))
    except (InputError, FloatingPointError) as error:
        print(f"zreward: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = "studio" if sys.argv[1:2] == ["studio"] else EXTRAS[error.name]
        print(f"zreward: {error.name} is missing; pip install 'zreward[{extra}]'", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"zreward: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
