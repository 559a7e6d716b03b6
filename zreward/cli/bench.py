"""Models on public benchmarks, and on suites of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    Device,
    Json,
    ScoringBatch,
    Seed,
    Temperature,
    Traces,
    check_target,
    load_teacher,
    names_of,
    refuse_unsampled,
    refuse_unused,
    save,
)
from zreward.common.errors import InputError


def bench(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoint folders, hub names or endpoint:URL#MODEL; NAME=MODEL calls one by another name."
        ),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME=PATH[#COLUMN]",
            help="A benchmark in its published layout; under any other name a file of records or preferences, or a table's "
            "column of mean ratings.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE[#COLUMN]",
            help="Another model's scores or choices, as a table; NAME@SUITE= where there are several suites.",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Measure tables on what they have an answer for; default: they must have all."),
    ] = False,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap",
            help="Measure also on suites that hold prompts or pictures a model was trained on; the report says so.",
        ),
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Of files of one's own, only this split; published suites have their official one."),
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIM=MODEL_DIM[+...]",
            help="Which of a model's dimensions answer one of the suite; default: the same name; for overall the mean.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="SUITE=FOLDER", help="Where a suite's pictures are; default: its own folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for bench.json, bench.md and bench.html.")
    ] = None,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Let models reason before they score, as a teacher does.")
    ] = False,
    traces: Traces = 1,
    temperature: Temperature = 1.0,
    batch_size: ScoringBatch = None,
    resamples: Annotated[int, typer.Option(min=1, help="Draws of prompts behind each interval.")] = 1000,
    seed: Seed = 0,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Measure models on benchmarks of human preference by their official metrics, with intervals over prompts."""
    from zreward.bench.commands import Request, run_bench
    from zreward.bench.run import Asking

    check_target(json_file)
    if out is not None and out.exists():
        raise InputError(f"{out} is there already; choose another --out, or delete it")
    if not models:
        refuse_unused(ctx, "without a model", "allow_overlap", "reasoning", "batch_size", "device")
    if not predictions:
        refuse_unused(ctx, "without --predictions", "partial")
    if reasoning:
        refuse_unsampled(ctx, reasoning, temperature, traces)
    else:
        refuse_unused(ctx, "without --reasoning: nothing is sampled", "traces", "temperature")
    if out is not None:
        import zreward.bench.page  # noqa: F401 - a missing extra is said before a model runs
    uses = {name: names_of(text.replace("+", ","), "--use") or () for name, text in named(use, "--use").items()}
    request = Request(
        models=dict(_models(models or [])),
        suites={name: Path(place) for name, place in named(suites, "--suite").items()},
        predictions=named(predictions, "--predictions"),
        images={name: Path(place) for name, place in named(images, "--images").items()},
        partial=partial,
        allow_overlap=allow_overlap,
        split=split,
        asking=Asking(reasoning, traces, temperature, batch_size, seed, resamples, uses),
    )
    report = run_bench(request, lambda name: load_teacher(ctx, name, device), lambda note: typer.echo(note, err=True))
    if json_file != STDOUT:
        report.print()
    if json_file:
        save(json_file, report.document)
    if out is not None:
        for path in report.write(out):
            typer.echo(f"written: {path}", err=json_file == STDOUT)


def named(texts: list[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE texts as a mapping; InputError for another form, or for a name that stands twice."""
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise InputError(f"{option} {text!r}; expected NAME=VALUE")
        if name in found:
            raise InputError(f"{option} {name} stands twice; give each a name of its own")
        found[name.strip()] = value.strip()
    return found


def _models(texts: list[str]) -> list[tuple[str, str]]:
    """(name, place) of each model; one without a name is called by its place."""
    found = []
    for text in texts:
        name, equals, place = text.partition("=")
        plain = not equals or "/" in name or ":" in name  # an = in a path or a URL
        found.append((text, text) if plain else (name, place))
    return found
