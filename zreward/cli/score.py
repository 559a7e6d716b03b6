"""Scores of a model: of images, of a data set, beside people's ratings, ranked, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from zreward.cli.options import (
    STDOUT,
    BatchSize,
    Device,
    Dimensions,
    Json,
    Seed,
    Temperature,
    Traces,
    check_new,
    check_source,
    check_suffix,
    check_target,
    load_model,
    names_of,
    refuse_unsampled,
    refuse_unused,
    save,
)
from zreward.common.errors import InputError


def score(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Image files, and folders of them (a folder's pictures.jsonl names its prompts)."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What the images were made from; not with pictures.jsonl.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Records (.jsonl, .parquet) in place of images.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the scores: .csv, .jsonl or .parquet; with --data a .parquet file."),
    ] = None,
    dimensions: Dimensions = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    reference: Annotated[Path | None, typer.Option(help="Image to compare with, for models that compare.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --data: bad rows get no score, and the reason.")
    ] = False,
    device: Device = None,
    json_file: Json = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --data: check rows, model and --out, and score nothing.")
    ] = False,
) -> None:
    """Score images for a prompt (mean, spread and distribution per dimension), or a whole data set into a Parquet file."""
    from zreward.data.images import check_path
    from zreward.inference.contact_sheet import find_candidates
    from zreward.inference.scoring import SUFFIXES, print_scores, score_rows, write_scores

    if data:
        refuse_unused(ctx, "with --data: records name their images", "images", "prompt", "reference")
        refuse_unused(ctx, "with --data, which writes to --out", "json_file")
        _score_data(model, data, out, dimensions, batch_size, skip_bad, device, dry_run)
        return
    refuse_unused(ctx, "without --data: an image that cannot be read is an error", "skip_bad")
    refuse_unused(ctx, "without --data: images are checked before the model is loaded", "dry_run")
    check_target(json_file)
    check_suffix("--out", out, *SUFFIXES)
    check_new("--out", out)
    if not images:
        raise InputError("expected images or folders of images, and --prompt; or --data and --out")
    names = names_of(dimensions)
    files, prompts, notes = find_candidates(images, prompt)
    if reference:
        check_path(str(reference))
    for note in notes:
        typer.echo(note, err=True)
    loaded = load_model(model, device)
    beside = str(reference) if reference else None
    rows = score_rows(loaded, files, prompts, names, batch_size, beside)
    scale = loaded.rubric.scale
    if json_file != STDOUT:
        print_scores(rows, scale)
    if out:
        write_scores(out, rows)
        typer.echo(f"{out}: {len(rows):,} rows", err=json_file == STDOUT)
    if json_file:
        save(json_file, {"scale": scale.to_dict() | {"bins": scale.bins.tolist()}, "model": model, "scores": rows})


def _score_data(model, data, out, dimensions, batch_size, skip_bad, device, dry_run) -> None:
    from zreward.inference.bulk import score_data

    if not out:
        raise InputError("--data goes with --out FILE.parquet")
    check_suffix("--out", out, ".parquet")
    check_source(data)
    names = names_of(dimensions)
    if dry_run:
        from zreward.inference.bulk_dry_run import check_inputs

        for line in check_inputs(model, data, out, names, skip_bad):
            typer.echo(f"checked: {line}")
        return
    total = score_data(load_model(model, device), data, out, names, batch_size, skip_bad)
    typer.echo(f"{out}: {total:,} rows")


def evaluate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    data: Annotated[Path, typer.Option("--data", help="Rated records, JSONL or Parquet.")],
    split: Annotated[str | None, typer.Option(help="Only records of this split.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Reason before scoring (teacher form).")] = False,
    traces: Traces = 1,
    dimensions: Dimensions = None,
    temperature: Temperature = 1.0,
    batch_size: BatchSize = 16,
    seed: Seed = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on past bad lines; they are written to a file.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with plots and the largest disagreements.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to this CSV file.")] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Run a model over rated records and print PLCC, SRCC, HPA, margin HPA, ties and calibration per dimension."""
    from zreward.common.runs import versions
    from zreward.data import load_records
    from zreward.evaluation.prediction import metrics_table, predict, print_table, rated_dimensions
    from zreward.evaluation.tables import write_csv

    check_target(json_file)
    check_suffix("--html", html, ".html")
    check_suffix("--csv", csv, ".csv")
    if html:
        from zreward.evaluation.report.evaluation import (
            write_evaluation,  # a missing extra is said before the model runs
        )
    refuse_unsampled(ctx, reasoning, temperature, traces)
    check_source(data)
    names = names_of(dimensions)
    loaded = load_model(model, device)
    # With file and line in its messages; a part, or answers on another scale, are checked by the evaluation.
    rubric = None if names or loaded.forms.reference else loaded.rubric
    records = load_records(data, rubric, skip_bad=skip_bad, split=split)
    predictions = predict(
        loaded,
        records,
        names or rated_dimensions(loaded, records),
        reasoning=reasoning,
        traces=traces,
        batch_size=batch_size,
        seed=seed,
        temperature=temperature,
    )
    rows = metrics_table(predictions, records)
    if json_file != STDOUT:
        print_table(rows, f"{model} on {data}", loaded.rubric.scale)
    if json_file:
        save(json_file, rows)
    if csv:
        typer.echo(f"table: {write_csv(csv, rows)}", err=json_file == STDOUT)
    if html:
        method = f"{traces} trace{'s' if traces > 1 else ''}" if reasoning else "direct"
        meta = {"model": model, "data": data, "records": len(records), "split": split or "all", "seed": seed}
        meta |= {"seconds": predictions.seconds, "versions": versions()}
        page = write_evaluation(html, predictions, records, method, "Evaluation", meta)
        typer.echo(f"page: {page}", err=json_file == STDOUT)


def rank(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them (with pictures.jsonl: of many prompts).")
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What they were made from; not with pictures.jsonl.")
    ] = None,
    dimensions: Dimensions = None,
    top: Annotated[int, typer.Option(min=1, help="Candidates printed of each prompt.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    out: Annotated[Path | None, typer.Option("--out", help="Page (.html) with all candidates, best first.")] = None,
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Best of N: the candidates of each prompt, with the probability that each is the best."""
    from zreward.inference.contact_sheet import find_candidates, print_ranking, write_contact_sheet
    from zreward.inference.ranking import rank as rank_all

    check_target(json_file)
    check_suffix("--out", out, ".html", ".htm")
    if json_file == STDOUT:
        refuse_unused(ctx, "beside --json, which prints all candidates", "top")
    names = names_of(dimensions)
    files, prompts, notes = find_candidates(images, prompt)
    for note in notes:
        typer.echo(note, err=True)
    scores = load_model(model, device).score(files, prompts, names, batch_size)
    ranked = rank_all(files, prompts, scores)
    if json_file != STDOUT:
        print_ranking(ranked, top)
    if out:
        typer.echo(f"page: {write_contact_sheet(out, ranked, model)}", err=json_file == STDOUT)
    if json_file:
        save(json_file, [candidate.to_dict() for candidate in ranked])


def serve(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or world:large / world:small.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    max_batch: Annotated[int, typer.Option(help="Images per forward pass, and per request.")] = 32,
    max_wait: Annotated[float, typer.Option(help="Maximum batching delay in seconds.")] = 0.01,
    max_queue: Annotated[int, typer.Option(help="Images that may wait; more are answered with 429.")] = 1024,
    max_image_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens that one image may become; default the model's own limit, else 1,280."),
    ] = None,
    max_prompt_tokens: Annotated[int, typer.Option(help="Tokens of one prompt.")] = 1024,
    dimensions: Dimensions = None,
    token: Annotated[
        str | None, typer.Option(envvar="ZREWARD_TOKEN", help="Bearer token that clients must send.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also POST / in pickle, on loopback only.")
    ] = False,
    device: Device = None,
) -> None:
    """Answer scores over HTTP: /v1/score, /compute, /get_reward, /health, /metrics, /docs."""
    from zreward.serving.server import serve as run_server
    from zreward.serving.settings import Settings

    if token is None and os.environ.get("ZREWARD_TOKEN") == "":
        token = ""  # the command line's library takes an empty variable for none at all
    settings = Settings(
        host,
        port,
        max_batch,
        max_wait,
        max_queue,
        max_image_tokens=max_image_tokens,
        max_prompt_tokens=max_prompt_tokens,
        token=token,
        dimensions=names_of(dimensions) or (),
        allow_pickle=allow_pickle,
    )
    run_server(model, settings, device)
