"""Data sets: import ratings, split records by prompt, check records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.groups import HelpfulGroup
from zreward.cli.options import (
    STDOUT,
    ImageField,
    Json,
    PromptField,
    Seed,
    SkipBad,
    check_target,
    names_of,
    refuse_unused,
    save,
)
from zreward.common.errors import InputError

data_app = typer.Typer(cls=HelpfulGroup, help=__doc__)
OWN_FORM = ("csv", "agiqa3k")
NO_RECORDS = (".csv", ".tsv", ".txt", ".json", ".xlsx", ".arrow", ".png", ".jpg")
Records = Annotated[Path, typer.Argument(help="Records (.jsonl, .parquet).")]
AnyRows = Annotated[Path, typer.Argument(metavar="RECORDS", help="Records or preferences (.jsonl, .parquet).")]
RubricFile = Annotated[
    Path | None, typer.Option("--rubric", help="Rubric YAML, which names the dimensions and the scale.")
]


@data_app.command("import")
def import_data(
    ctx: typer.Context,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="csv for a table of your own, or a published data set; without a name, all are listed.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Argument(
            help="The CSV file, or the folder of the data set; without it, what NAME is and what ROOT holds."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Argument(help="Records or preferences to write: a file (.jsonl, .parquet) or a folder.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="csv: column of the prompt; default: guessed from its name.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="csv: column of the image's path; default: guessed from its name.")
    ] = None,
    rater: Annotated[str | None, typer.Option(help="csv: column of the rater; default: guessed from its name.")] = None,
    dimensions: Annotated[
        str | None, typer.Option(help="csv: columns of ratings, NAME or NAME=COLUMN, separated by commas.")
    ] = None,
    dimension: Annotated[
        str | None, typer.Option(help="csv with one rating per line: column of the dimension.")
    ] = None,
    score: Annotated[str | None, typer.Option(help="csv with one rating per line: column of the score.")] = None,
    winner: Annotated[
        str | None, typer.Option(help="csv of comparisons: column that says which of two images was chosen.")
    ] = None,
    image_a: Annotated[
        str | None, typer.Option(help="With --winner: column of the first image; default: guessed from its name.")
    ] = None,
    image_b: Annotated[
        str | None, typer.Option(help="With --winner: column of the second image; default: guessed from its name.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that image paths start at; default: ROOT, or the folder of the CSV file."),
    ] = None,
    pictures: Annotated[
        str,
        typer.Option(
            help="Published data sets: decode every picture, check that its file exists (exist), or none of both."
        ),
    ] = "decode",
    listed: Annotated[bool, typer.Option("--list", help="Print the table of published data sets.")] = False,
    rubric: RubricFile = None,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Convert ratings or preferences (a CSV file or a published data set); images are not copied, nothing is downloaded."""
    from zreward.data.importers.registry import find_importer, importer_table, importer_text
    from zreward.rubric import Rubric

    if kind is None or listed:
        typer.echo(importer_table())
        return
    importer = None if kind == "csv" else find_importer(kind, "csv")
    if root is None or out is None:
        if importer is None or root is not None:
            missing = "ROOT and OUT are" if root is None else "OUT is"
            raise InputError(f"{missing} missing; expected zreward data import {kind} ROOT OUT")
        typer.echo(importer_text(importer))
        return
    _check_out(out, root)
    of_csv = ("prompt", "image", "rater", "dimensions", "dimension", "score", "winner", "image_a", "image_b")
    if kind == "agiqa3k":
        from zreward.data import import_agiqa3k

        refuse_unused(ctx, "with agiqa3k: it belongs to csv", *of_csv, "images", "rubric")
        refuse_unused(ctx, "with agiqa3k: its pictures are always decoded", "pictures")
        typer.echo(f"records: {import_agiqa3k(root, out, seed=seed, skip_bad=skip_bad)}")
        return
    refuse_unused(ctx, f"with {kind}: `zreward data split` makes splits", "seed")
    chosen = Rubric.from_yaml(rubric) if rubric else None
    if importer is not None:
        from zreward.data.importers.importer import run_importer

        refuse_unused(ctx, f"with {kind}: it belongs to csv", *of_csv)
        done = run_importer(importer, root, out, images, skip_bad, pictures, chosen)
        passed = f"; {done.passed:,} rows without a label passed over" if done.passed else ""
        typer.echo(f"{importer.result}: {done.path} ({done.made:,}{passed})")
        if importer.dimensions and not chosen:
            typer.echo(f"rubric: {done.path}.rubric.yaml")
        return
    from zreward.data.importers.csv_ratings import Columns, import_csv

    refuse_unused(ctx, "with csv: its pictures are always decoded", "pictures")
    if winner is not None:
        from zreward.data.importers.csv_winners import WinnerColumns, import_winners

        refuse_unused(ctx, "with --winner: nothing is scored", "image", "dimensions", "score", "rubric")
        named = WinnerColumns(prompt, image_a, image_b, winner, rater, dimension)
        typer.echo(import_winners(root, out, named, images, skip_bad))
        return
    refuse_unused(ctx, "without --winner", "image_a", "image_b")
    columns = Columns(prompt, image, rater, dimension, score, names_of(dimensions) or ())
    typer.echo(str(import_csv(root, out, columns, images, chosen, skip_bad)))


@data_app.command()
def split(
    records: AnyRows,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files train, dev and test.")],
    train: Annotated[float, typer.Option(min=0, max=1, help="Share of the records, 0 to 1; the three sum to 1.")] = 0.8,
    dev: Annotated[float, typer.Option(min=0, max=1, help="Share of the records, 0 to 1; the three sum to 1.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the records, 0 to 1; the three sum to 1.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Split records or preferences into train, dev and test by prompt; prompts of one group or with an identical image
    stay together."""
    from zreward.data import load_preferences, load_records, save_preferences, save_records, split_by_prompt
    from zreward.data.preference_files import holds_preferences
    from zreward.data.splits import split_preferences_by_prompt

    shares = {name: share for name, share in (("train", train), ("dev", dev), ("test", test)) if share}
    if abs(sum(shares.values()) - 1) > 1e-6:
        shown = " + ".join(f"--{name} {share:g}" for name, share in shares.items())
        raise InputError(f"{shown} is {sum(shares.values()):g}; expected shares that sum to 1")
    suffix = ".parquet" if records.suffix.lower() == ".parquet" else ".jsonl"
    files = {name: out / f"{name}{suffix}" for name in shares}
    there = next((file for file in files.values() if file.exists()), None)
    if there:
        raise InputError(f"{there} is there already; choose another --out, or delete it")
    if holds_preferences(records):
        for name, pairs in split_preferences_by_prompt(load_preferences(records), shares, seed).items():
            save_preferences(pairs, files[name])
            typer.echo(f"{name}: {files[name]} ({len(pairs):,} pairs, {len({one.prompt for one in pairs}):,} prompts)")
        return
    for name, part in split_by_prompt(load_records(records), shares, seed).items():
        save_records(part, files[name])
        typer.echo(f"{name}: {files[name]} ({len(part):,} records, {len({r.prompt for r in part}):,} prompts)")


@data_app.command()
def preferences(
    records: Records,
    out: Annotated[Path, typer.Argument(help="Preferences to write (.jsonl, .parquet).")],
    dimensions: Annotated[
        str | None, typer.Option(help="Names of dimensions, separated by commas; default: all that are rated.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="Scores that differ by at most this much are a tie.")] = 0.0,
) -> None:
    """Turn scored records into preferences: all pairs of a prompt, with a vote of everybody who scored both pictures."""
    from zreward.data import load_records, record_preferences, save_preferences
    from zreward.data.preference import count_of

    _check_out(out, records)
    found = record_preferences(load_records(records, check_images=False), names_of(dimensions), margin)
    if not found:
        raise InputError(f"{records}: no prompt has two pictures that are rated on the same dimension")
    typer.echo(f"preferences: {save_preferences(found, out)} ({count_of(found)})")


@data_app.command()
def check(
    records: AnyRows,
    rubric: RubricFile = None,
    prompt_field: PromptField = None,
    image_field: ImageField = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Records or preferences, or a checkpoint's folder: report prompts and pictures that are there as well, also in "
            "other capitals, recompressed or resized."
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Count prompts, images, ratings or votes, and report errors that training would hit; exit code 2 if there are any."""
    from zreward.cli.findings import print_findings
    from zreward.data.checking import check_records
    from zreward.data.preference_checking import check_preferences
    from zreward.data.preference_files import holds_preferences
    from zreward.data.sources import Fields, Source
    from zreward.rubric import Rubric

    check_target(json_file)
    chosen = Rubric.from_yaml(rubric) if rubric else None
    source = Source(str(records), Fields(prompt_field, image_field))
    pairs = not source.fields.are_named and holds_preferences(source)
    found = check_preferences(records, chosen) if pairs else check_records(source, chosen)
    if against is not None:
        from zreward.cli.overlap import check_against

        check_against(found, against)
    if json_file != STDOUT:
        print_findings(found, str(records), "pictures" if pairs else "records")
    if json_file:
        save(json_file, {key: getattr(found, key) for key in ("prompts", "counts", "raters", "errors", "notes")})
    if found.errors:
        count = "1 error" if len(found.errors) == 1 else f"{len(found.errors)} errors"
        raise InputError("\n".join([*found.errors, f"{count} in {records}"]))


def _check_out(out: Path, source: Path) -> None:
    if out.suffix.lower() in NO_RECORDS or out == source:
        raise InputError(f"{out}: expected a folder for the records, or a name that ends in .jsonl or .parquet")
