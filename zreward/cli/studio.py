"""`zreward studio`: serve a project's pages, make one, invite people, take labels in and hand them out."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zreward.cli.groups import HelpfulGroup
from zreward.cli.options import refuse_unused
from zreward.common.errors import InputError

if TYPE_CHECKING:
    from zreward.studio.storage.project import Project


RECORDS = (".jsonl", ".parquet")
OPEN = (
    "Other machines reach this address over plain HTTP: passwords and cookies can be read on the way. Put an HTTPS "
    "proxy in front of it and use --https, or listen on 127.0.0.1."
)
ANY_PROXY = (
    "--proxies * trusts X-Forwarded-For from every client, so that clients can choose the address that is counted."
)


class _ServesByDefault(HelpfulGroup):
    """`zreward studio PROJECT` is `zreward studio serve PROJECT`; a mistyped command is not taken for a project."""

    def resolve_command(self, ctx, args):
        known = args[0] in self.commands or args[0].startswith("-")
        mistyped = not Path(args[0]).exists() and get_close_matches(args[0], self.commands)
        if not known and not mistyped:
            args = ["serve", *args]
        return super().resolve_command(ctx, args)


studio_app = typer.Typer(cls=_ServesByDefault, help="Rate, check and compare images in the browser: studio PROJECT.")
Folder = Annotated[Path, typer.Argument(help="The project's folder.")]
Database = Annotated[
    str | None,
    typer.Option(
        "--database", help="Database URL such as postgresql+psycopg://...; default: SQLite in the project's folder."
    ),
]


@studio_app.command()
def serve(
    project: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free port.")] = 8080,
    database: Database = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model whose scores sort the queue of quality control: checkpoint folder, hub name, or world:small."
        ),
    ] = None,
    https: Annotated[
        bool, typer.Option("--https", help="A proxy serves the studio over HTTPS: mark cookies as secure.")
    ] = False,
    proxies: Annotated[
        str | None,
        typer.Option(help="Addresses of proxies, separated by commas, whose X-Forwarded-* headers are trusted."),
    ] = None,
) -> None:
    """Serve a project's web pages."""
    from zreward.common.listening import is_open, listen, url
    from zreward.studio.app import create_app
    from zreward.studio.server import serve_studio as run
    from zreward.studio.storage.project import Project

    opened = Project(project, database)
    if proxies is not None and not proxies.strip():
        raise InputError("--proxies is empty; expected addresses such as 127.0.0.1, with commas between")
    sockets = listen(host, port)  # before a model is loaded, and before the address is printed
    if model:
        _predict(opened, model)
    app = create_app(opened, https)  # before an address is printed: the database may be none
    typer.echo(f"{opened.name}: {url(host, sockets)}")
    if is_open(sockets) and not https:
        typer.echo(OPEN, err=True)
    if proxies is not None and "*" in proxies:
        typer.echo(ANY_PROXY, err=True)
    run(opened, app, sockets, proxies)


@studio_app.command()
def init(
    ctx: typer.Context,
    project: Folder,
    source: Annotated[
        Path | None, typer.Argument(help="Folder of pictures (with pictures.jsonl), or records (.jsonl, .parquet).")
    ] = None,
    world: Annotated[
        bool, typer.Option("--world", help="Fill the project with pictures of the built-in world, to try the studio.")
    ] = False,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt of all pictures, for a folder without pictures.jsonl.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="With --world: number of prompts; each has four pictures.")] = 20,
    rubric: Annotated[Path | None, typer.Option(help="Rubric, a YAML file; default: the shipped rubric.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Project name, shown on every page; default: the folder's name.")
    ] = None,
    raters: Annotated[int, typer.Option(help="Annotators who rate each picture on each dimension.")] = 3,
    administrator: Annotated[str, typer.Option(help="User name of the administrator.")] = "admin",
    seed: Annotated[int, typer.Option(help="With --world: random seed of scenes and hidden items.")] = 0,
    url: Annotated[str, typer.Option(help="The studio's URL, for the sign-in link.")] = "http://127.0.0.1:8080",
    with_ratings: Annotated[
        bool,
        typer.Option("--with-ratings", help="With records: also import their ratings, as labels of their raters."),
    ] = False,
    database: Database = None,
) -> None:
    """Create a project and print the administrator's sign-in link."""
    from zreward.data import load_records
    from zreward.data.manifest import PICTURE_LIST
    from zreward.rubric import Rubric
    from zreward.studio import create
    from zreward.studio.domain.import_records import labels_of
    from zreward.studio.storage.project import ProjectSettings

    ratings, left_out = [], 0
    if world == (source is not None):
        raise InputError("expected a SOURCE of pictures, or --world for a try-out, and not both")
    if source is None:
        refuse_unused(ctx, "with --world, whose pictures have prompts of their own", "prompt")
    else:
        refuse_unused(ctx, "without --world", "prompts", "seed")
        if source.suffix.lower() in RECORDS:
            refuse_unused(ctx, "with records, which name their prompts", "prompt")
        elif (source / PICTURE_LIST).exists():
            refuse_unused(ctx, f"with a folder whose {PICTURE_LIST} names the prompts", "prompt")
    if source is None or source.suffix.lower() not in RECORDS:
        refuse_unused(ctx, "without records", "with_ratings")
    if source is None:
        from zreward.world import try_out
        from zreward.world.base_models import world_rubric

        pictures, chosen = try_out.pictures(prompts, seed=seed), world_rubric()
    else:
        if source.suffix.lower() in RECORDS:
            records = load_records(source)
            pictures = create.from_records(records, source.stem)
            ratings = labels_of(records, source.stem) if with_ratings else []
            left_out = 0 if with_ratings else sum(bool(record.scores) for record in records)
        else:
            found, note = create.from_folder(source, prompt)
            pictures = iter(found)
            typer.echo(note, err=True, nl=bool(note))
        chosen = Rubric.default()
    settings = ProjectSettings(name=name or project.resolve().name, raters_per_item=raters, database=database)
    chosen = Rubric.from_yaml(rubric) if rubric else chosen
    token = create.create_project(project, pictures, chosen, settings, administrator, seed, ratings)
    if left_out:
        typer.echo(f"The ratings of {left_out} records were left out; --with-ratings takes them in.", err=True)
    typer.echo(
        f"{project}: made{f', with {len(ratings)} ratings' if ratings else ''}. Start it: zreward studio {project}"
    )
    typer.echo(f"Sign-in link for {administrator}: {url.rstrip('/')}/invitation/{token}")


@studio_app.command()
def invite(
    project: Folder,
    person: Annotated[str, typer.Argument(metavar="NAME", help="User name of the person to invite.")],
    role: Annotated[str, typer.Option(help="Role: annotator, quality or administrator.")] = "annotator",
    database: Database = None,
    url: Annotated[str, typer.Option(help="The studio's URL, for the sign-in link.")] = "http://127.0.0.1:8080",
) -> None:
    """Print a sign-in link for a new person, or for one who has forgotten the password."""
    from zreward.studio.domain import accounts
    from zreward.studio.storage.opening import open_project

    with open_project(project, database) as (_, session):
        _, token = accounts.invite(session, person, role)
    typer.echo(f"{url.rstrip('/')}/invitation/{token}")


@studio_app.command()
def export(
    project: Folder,
    out: Annotated[Path, typer.Argument(help="File (.jsonl, .parquet), or a folder for a Hugging Face data set.")],
    accepted_only: Annotated[
        bool, typer.Option("--accepted-only", help="Only labels that quality control accepted.")
    ] = False,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Also labels of annotators below the quality threshold.")
    ] = False,
    database: Database = None,
) -> None:
    """Export the labels as records for training."""
    from zreward.studio.domain.exporting import ExportOptions
    from zreward.studio.domain.exporting import export_labels as run
    from zreward.studio.storage.opening import open_project

    with open_project(project, database) as (opened, session):
        count = run(session, opened, out, ExportOptions(accepted_only, everybody))
    typer.echo(f"{out}: {count} records")


@studio_app.command("import")
def import_labels(
    project: Folder,
    labels: Annotated[
        Path,
        typer.Argument(
            help="CSV (image, prompt, rater, dimension, score), Label Studio's JSON, or rated records (.jsonl, .parquet)."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; default: the folder of the file.")
    ] = None,
    database: Database = None,
) -> None:
    """Import labels made elsewhere; a file with an error is refused as a whole."""
    from zreward.studio.domain.importing import import_file as run
    from zreward.studio.storage.opening import open_project

    with open_project(project, database) as (opened, session):
        typer.echo(str(run(session, opened, labels, images)))


@studio_app.command()
def gold(
    project: Folder,
    table: Annotated[
        Path, typer.Argument(help="CSV or JSON lines: picture (its name in the project), dimension, score.")
    ],
    database: Database = None,
) -> None:
    """Add gold items (pictures with a known score, hidden among the others); a table with an error is refused as a whole."""
    from zreward.common.text_files import read_text
    from zreward.studio.domain.gold_files import ENDINGS, plan_gold
    from zreward.studio.domain.rubric_versions import rubric_in_force
    from zreward.studio.storage.opening import open_project

    text = read_text(table, f"a table ({' or '.join(ENDINGS)})")
    with open_project(project, database) as (_, session):
        typer.echo(str(plan_gold(session, rubric_in_force(session), text, table.name)))


@studio_app.command()
def predict(
    project: Folder,
    model: Annotated[str, typer.Argument(help="Checkpoint folder, hub name, or world:small.")],
    database: Database = None,
) -> None:
    """Score every picture with a model, to sort the queue of quality control; annotators do not see the scores."""
    from zreward.studio.storage.project import Project

    _predict(Project(project, database), model)


def _predict(project: Project, name: str) -> None:
    from zreward.models.reward_model import RewardModel
    from zreward.studio.domain.predictions import predict_scores as run
    from zreward.studio.domain.rubric_versions import rubric_in_force
    from zreward.studio.storage.opening import open_project

    model = RewardModel.from_pretrained(name)
    with open_project(project.folder, project.database_url) as (opened, session):
        count = run(session, opened, rubric_in_force(session), model, name)
    typer.echo(f"{count} pictures scored by {name}")
